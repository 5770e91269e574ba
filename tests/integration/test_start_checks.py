"""A process starts only if its start position is known. Otherwise it exits with code 70 and logs the reason.

Each loss is caused at the broker or in the state directory while the worker is down. A damaged or foreign checkpoint
loses nothing and does not prevent the start.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.protocol.group import LeaveGroupRequest

from eventlog.admin.topic_creation import create_topics
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime.abort import EXIT_CODE
from tests.chaos.kernel.copying import DECIDER, KIND
from tests.chaos.kernel.run import PARTITIONS, committed, exact
from tests.chaos.kernel.site import Site
from tests.waiting import wait_for_async

Loss = Callable[[Site], Awaitable[None]]


async def nothing(site: Site) -> None:
    """Nothing is lost."""


async def read_inbox_lost(site: Site) -> None:
    """Retention has deleted the committed part of the inbox, and no unread tick at its end."""
    offsets = await committed(site.kafka, site.inbox.readers[0])
    await _trim(site.inbox, site, {tp.partition: offset for tp, offset in offsets.items()})


async def the_group(site: Site) -> None:
    """The group's offsets have expired."""
    async with _admin(site) as admin:
        await _empty_group(site, admin)
        deleted = await _ask_coordinator(site, admin, DeleteGroupsRequest([site.inbox.readers[0]]))
        assert [code for _, code in deleted.results] == [0]


async def unread_inbox_lost(site: Site) -> None:
    """Retention has deleted records that the worker had not read."""
    await site.feed()
    await _trim(site.inbox, site, await site.ends(site.inbox))


async def the_inbox(site: Site) -> None:
    """The topic was deleted and created again."""
    async with _admin(site) as admin:
        await _empty_group(site, admin)
        await admin.delete_topics([site.inbox.name])

        async def gone() -> bool:
            return site.inbox.name not in await admin.list_topics()

        await wait_for_async(gone, seconds=20, every=0.05)
    await create_topics(site.kafka, [site.inbox], partitions=PARTITIONS, replication=1)


async def all_topics(site: Site) -> None:
    """Both topics are created again, as in a new cluster. The state directory is of the old ones."""
    async with _admin(site) as admin:
        await _empty_group(site, admin)
        names = {site.inbox.name, site.log.name}
        await admin.delete_topics(list(names))

        async def gone() -> bool:
            return not names & set(await admin.list_topics())

        await wait_for_async(gone, seconds=20, every=0.05)
    await create_topics(site.kafka, [site.inbox, site.log], partitions=PARTITIONS, replication=1)


async def the_files(site: Site) -> None:
    """A power cut or a bad disk: a file of each partition's database is empty, truncated, zeroed or missing."""
    for number, directory in enumerate(_kept(site, "w0")):
        current = directory / "CURRENT"
        manifest = directory / current.read_text().strip()
        if number % 4 == 0:
            current.write_bytes(b"")
        elif number % 4 == 1:
            manifest.write_bytes(manifest.read_bytes()[: manifest.stat().st_size // 2])
        elif number % 4 == 2:
            for file in directory.iterdir():
                file.write_bytes(bytes(file.stat().st_size))
        else:
            manifest.unlink()


def _kept(site: Site, instance: str) -> list[Path]:
    found = sorted(one for one in (site.directory / instance / site.inbox.readers[0]).iterdir() if one.name.isdigit())
    assert len(found) == PARTITIONS
    return found


async def the_inbox_and_the_checkpoint(site: Site) -> None:
    """The state directory is gone, and only the log is left."""
    await the_inbox(site)
    site.delete_state("w0")


async def the_logs_beginning(site: Site) -> None:
    """The first decision of each partition was deleted, and the state directory is gone."""
    await _trim(site.log, site, dict.fromkeys(range(PARTITIONS), 1))
    site.delete_state("w0")


MESSAGES: dict[Loss, str] = {
    the_group: r"no committed offset, and no other record of what was read: .* topic={inbox} partition=\d",
    # A decider also compares with its state.
    unread_inbox_lost: r"(the log was trimmed before it was read topic={inbox} partition=\d at=\d+ begin=\d+|"
    r"the inbox begins after the last input that was decided: .* topic={inbox} partition=\d decided=\d+ "
    r"committed=\d+ begin=\d+)",
    the_logs_beginning: r"the log was trimmed topic={log} partition=\d folded=-1 begin=\d+",
}


@asynccontextmanager
async def _admin(site: Site) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _ask_coordinator(site: Site, admin: Any, request: Any) -> Any:
    return await admin._send_request_to_node(await admin.find_coordinator(site.inbox.readers[0]), request)


async def _empty_group(site: Site, admin: Any) -> None:
    """Removes the stopped worker from its group, where a static member otherwise stays for a session."""
    (described,) = await admin.describe_consumer_groups([site.inbox.readers[0]])
    ((_, group, _, _, _, members, *_),) = described.groups
    for member in members:
        left = await _ask_coordinator(site, admin, LeaveGroupRequest(group, member[0]))
        assert left.error_code == 0


async def _trim(topic: TopicSpec, site: Site, begins: Mapping[int, int]) -> None:
    """Deletes the records before these offsets, by partition."""
    async with _admin(site) as admin:
        await admin.delete_records(
            {TopicPartition(topic.name, p): RecordsToDelete(before_offset=begin) for p, begin in begins.items()}
        )


async def _worked(site: Site, *, times: int = 1) -> None:
    """Runs a worker until it has decided inputs and taken a checkpoint."""
    worker = site.start()
    await site.feed()

    async def committed_again() -> bool:
        return len(await committed(site.kafka, site.inbox.readers[0])) == PARTITIONS

    # The group may have no offsets yet.
    await wait_for_async(committed_again, seconds=45)
    await site.wait_drained()
    # It can have decided everything before its start has completed. It is stopped only after its start.
    await site.wait_started("w0", times=times)
    worker.send_signal(signal.SIGTERM)
    assert await site.wait_exit(worker) == 0


@pytest.mark.parametrize(
    ("worker", "loss"),
    [
        # A decider knows its position from its state.
        *((DECIDER, loss) for loss in MESSAGES if loss is not the_group),
        # Stateless processors know only their committed offsets.
        ("effects", the_group),
        ("effects", unread_inbox_lost),
    ],
)
async def test_a_start_that_would_lose_records_ends_the_process_and_logs_the_reason(
    kafka_broker: str, tmp_path: Path, worker: str, loss: Loss
) -> None:
    async with Site(kafka_broker, tmp_path, {KIND: worker}) as site:
        await _worked(site)
        await loss(site)
        log = site.log_of("w0")
        before = log.read_text()
        started = site.start()
        # It retries 200 times for the missing records.
        assert await asyncio.to_thread(started.wait, 60)
        output = log.read_text().removeprefix(before)
        assert started.code == EXIT_CODE, output
        reasons = re.findall(f"^stopping with code {EXIT_CODE}: (.*)$", output, re.MULTILINE)
        wanted = MESSAGES[loss].format(inbox=re.escape(site.inbox.name), log=re.escape(site.log.name))
        assert [bool(re.fullmatch(wanted, reason)) for reason in reasons] == [True], output
        assert "Traceback" not in output


@pytest.mark.parametrize("loss", [the_inbox, the_inbox_and_the_checkpoint])
async def test_a_decider_whose_inbox_was_lost_is_quarantined_and_logs_it(
    kafka_broker: str, tmp_path: Path, loss: Loss
) -> None:
    async with Site(kafka_broker, tmp_path, {KIND: DECIDER}) as site:
        await _worked(site)
        await loss(site)
        log = site.log_of("w0")
        before = log.read_text()
        started = site.start()
        message = re.compile(
            r"partition (\d) is quarantined: .* the inbox ends at 0, before input \d+ that was decided"
        )

        async def all_stand_still() -> bool:
            return len(set(message.findall(log.read_text().removeprefix(before)))) == PARTITIONS

        await wait_for_async(all_stand_still, seconds=60)
        await site.wait_started("w0", times=2)
        started.send_signal(signal.SIGTERM)
        assert await site.wait_exit(started) == 0


@pytest.mark.parametrize("loss", [nothing, read_inbox_lost, the_group])
async def test_a_start_that_loses_nothing_is_not_stopped(kafka_broker: str, tmp_path: Path, loss: Loss) -> None:
    async with Site(kafka_broker, tmp_path) as site:
        await _worked(site)
        await loss(site)
        await _worked(site, times=2)
        if loss is not read_inbox_lost:
            counts = await site.settled_counts()
            assert exact(counts), counts


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (all_topics, r"set aside .* \(another log\): topic \S+ had the id \S+, now it has"),
        (the_files, r"set aside .* \(damaged\)"),
    ],
)
async def test_an_unusable_state_is_set_aside_and_the_log_is_folded_again(
    kafka_broker: str, tmp_path: Path, loss: Loss, message: str
) -> None:
    async with Site(kafka_broker, tmp_path) as site:
        await _worked(site)
        await loss(site)
        await _worked(site, times=2)
        counts = await site.settled_counts()
        assert exact(counts), counts
        # A truncated manifest can still name a valid older prefix.
        wanted = PARTITIONS - (loss is the_files)
        assert len(re.findall(message, site.log_of("w0").read_text())) >= wanted
        assert sum(one.name.endswith(".set-aside") for one in _all_kept(site)) >= wanted


def _all_kept(site: Site) -> list[Path]:
    return list((site.directory / "w0" / site.inbox.readers[0]).iterdir())


async def test_the_state_of_another_log_is_neither_served_nor_written_from(kafka_broker: str, tmp_path: Path) -> None:
    async with Site(kafka_broker, tmp_path / "a") as other, Site(kafka_broker, tmp_path / "b") as site:
        await _worked(other)
        for kept in _kept(other, "w0"):
            target = site.directory / "w0" / site.inbox.readers[0] / kept.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(kept, target)
        await _worked(site)
        counts = await site.settled_counts()
        assert exact(counts), counts
        assert site.log_of("w0").read_text().count("it was folded from topic") == PARTITIONS


async def test_damage_that_is_found_while_a_decider_runs_ends_it_and_its_next_start_recovers(
    kafka_broker: str, tmp_path: Path
) -> None:
    async with Site(kafka_broker, tmp_path) as site:
        await _worked(site)
        for directory in _kept(site, "w0"):
            for table in directory.glob("*.sst"):
                data = bytearray(table.read_bytes())
                # Damages the head, where the rows are. The end, which is read at the start, stays valid.
                data[: len(data) // 3] = bytes(len(data) // 3)
                table.write_bytes(data)
        worker = site.start()
        if await asyncio.to_thread(worker.wait, 15):
            assert worker.code == EXIT_CODE
            assert "the state on disk can't be used" in site.log_of("w0").read_text()
        else:
            worker.kill()
        await _worked(site, times=2)
        counts = await site.settled_counts()
        assert exact(counts), counts
