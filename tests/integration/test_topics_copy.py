"""`topics copy` and `topics open` on two brokers: every record keeps its offset, time, key, headers and value.

A copy grows by repeated runs, refuses a target that is not its own, and omits the newest records while services run.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from devstack.kafka.broker import Broker
from eventlog.broker.partition_reader import PartitionReader
from ops.broker.copy.log_copy import Copied, LogCopy, open_copy
from ops.broker.log_creation import create_log
from ops.errors import OpsError
from shared_kernel import log_registry
from shared_kernel.topics import ALL, CAMPAIGNS, GROUP_INBOX, GROUP_LOG, GROUPS_DECIDER, ORDERS

pytestmark = pytest.mark.timeout(300)

PARTITIONS = 2
KEPT_FROM = 3


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A source with topics and records, and an empty target."""
    source, target = Broker(), Broker()
    try:
        source.start(tmp_path_factory.mktemp("source"))
        target.start(tmp_path_factory.mktemp("target"))
        asyncio.run(fill(source.bootstrap))
        yield source.bootstrap, target.bootstrap
    finally:
        source.release()
        target.release()


async def fill(kafka: str) -> None:
    """Creates the topics, writes to some, and deletes the first records of one as retention does."""
    await create_log(kafka, partitions=PARTITIONS, default=64, replication=1, who="test")
    for topic in (ORDERS.name, GROUP_INBOX.name, CAMPAIGNS.name):
        await write(kafka, topic, 10)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(ORDERS.name, 0): RecordsToDelete(before_offset=KEPT_FROM)})
    finally:
        await admin.close()


async def write(kafka: str, topic: str, count: int) -> None:
    """Appends records with keys and headers to both partitions."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        for number in range(count):
            for partition in range(PARTITIONS):
                key, value = f"key-{number % 3}".encode(), f"value {topic} {number}".encode()
                headers = [("ce_id", f"{number}".encode())]
                await producer.send_and_wait(topic, value, key=key, partition=partition, headers=headers)
    finally:
        await producer.stop()


async def copied(source: str, target: str) -> dict[str, Copied]:
    async with LogCopy(source, target, ALL) as copying:
        return {one.topic: one for one in await copying.run(1, lambda _line: None)}


async def content(kafka: str, topic: str) -> list[tuple[Any, ...]]:
    """Every record of a topic."""
    async with PartitionReader.of_topic(kafka, topic, PARTITIONS) as reading:
        rows = [
            (tp.partition, one.offset, one.timestamp, one.key, list(one.headers), one.value)
            async for tp, one in reading.all_records()
        ]
        return sorted(rows, key=lambda row: row[:2])


async def test_a_copy_is_the_log_and_grows_with_it(brokers: tuple[str, str]) -> None:
    source, target = brokers
    first = await copied(source, target)
    assert first[ORDERS.name].records == 2 * 10 - KEPT_FROM
    for topic in ALL:
        assert await content(target, topic.name) == await content(source, topic.name), topic.name
    assert min(row[1] for row in await content(target, ORDERS.name) if row[0] == 0) == KEPT_FROM

    await write(source, ORDERS.name, 5)
    await write(source, CAMPAIGNS.name, 1)
    second = await copied(source, target)
    assert {name for name, one in second.items() if one.records} == {ORDERS.name, CAMPAIGNS.name}
    assert second[ORDERS.name].records == 2 * 5
    for topic in (ORDERS, CAMPAIGNS):
        assert await content(target, topic.name) == await content(source, topic.name)
    assert not any(one.records for one in (await copied(source, target)).values())


async def test_while_a_service_runs_the_newest_records_are_left_out(brokers: tuple[str, str]) -> None:
    source, target = brokers
    await copied(source, target)
    consumer = AIOKafkaConsumer(GROUP_INBOX.name, bootstrap_servers=source, group_id=GROUPS_DECIDER)
    await consumer.start()
    try:
        await consumer.getmany(timeout_ms=1_000)
        await write(source, GROUP_INBOX.name, 3)
        async with LogCopy(source, target, ALL) as copying:
            live = {one.topic: one.records for one in await copying.run(1, lambda _line: None)}
            assert copying.until_ms is not None
        assert live[GROUP_INBOX.name] == 0
    finally:
        await consumer.stop()
    assert (await copied(source, target))[GROUP_INBOX.name].records == 2 * 3


#: A member of a consumer group that ends without leaving it.
MEMBER = """
import asyncio, sys
from aiokafka import AIOKafkaConsumer

async def join() -> None:
    broker, topic, group = sys.argv[1:]
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=broker, group_id=group, session_timeout_ms=6000)
    await consumer.start()
    await consumer.getmany(timeout_ms=1000)
    print("joined", flush=True)
    await asyncio.sleep(600)

asyncio.run(join())
"""


async def test_a_final_copy_has_the_last_records_of_killed_services(brokers: tuple[str, str]) -> None:
    source, target = brokers
    await copied(source, target)
    member = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEMBER, source, GROUP_INBOX.name, GROUPS_DECIDER, stdout=asyncio.subprocess.PIPE
    )
    assert member.stdout is not None
    assert await member.stdout.readline() == b"joined\n"
    async with LogCopy(source, target, ALL) as copying:
        with pytest.raises(OpsError, match=f"{GROUPS_DECIDER} has members after 1 s"):
            await copying.run(1, lambda _line: None, final=True, stopped_within_s=1.0)
    await write(source, GROUP_INBOX.name, 2)
    member.kill()
    await member.wait()
    # The broker does not know yet that nobody writes any more.
    assert (await copied(source, target))[GROUP_INBOX.name].records == 0
    async with LogCopy(source, target, ALL) as copying:
        last = {one.topic: one.records for one in await copying.run(1, lambda _line: None, final=True)}
        assert copying.until_ms is None
    assert last[GROUP_INBOX.name] == 2 * 2


async def test_a_target_with_another_record_is_refused(brokers: tuple[str, str]) -> None:
    source, target = brokers
    await copied(source, target)
    # Somebody writes to the copy; the source gets another record at this offset.
    await write(target, GROUP_LOG.name, 1)
    with pytest.raises(OpsError, match="of the copy has 1 records, of the source 0: another log"):
        await copied(source, target)
    await write(source, GROUP_LOG.name, 1)
    with pytest.raises(OpsError, match="of the copy is another record than the source's"):
        await copied(source, target)


async def test_an_opened_copy_is_a_log_that_services_accept(brokers: tuple[str, str]) -> None:
    source, target = brokers
    with suppress(OpsError):  # after the test above
        await copied(source, target)
    assert set(await open_copy(target, ALL)) == {topic.name for topic in ALL}
    assert await log_registry.check(target) == PARTITIONS
    assert await open_copy(target, ALL) == []
    with pytest.raises(OpsError, match="it is no unfinished copy"):
        await copied(source, target)
