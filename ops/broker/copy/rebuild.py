"""`topics rebuild`: removes an added partition or a foreign record. Copies a topic aside, recreates it, copies it back.

Offsets, times, keys, headers and values stay the same, because decisions refer to offsets and times of the log. Every
copy is compared with its original before anything is deleted. An interrupted run can be repeated: it finds its progress
in the topics. Services have to be stopped. Needs an administrator's rights.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing, suppress
from hashlib import sha256
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import for_code

from eventlog.admin.topic_creation import creation_config
from eventlog.broker.partition_reader import PartitionReader
from eventlog.broker.security import Kafka, client
from eventlog.broker.topic_checks import partition_counts
from eventlog.core.errors import TopicsDiffer
from eventlog.records.topic_spec import TopicSpec
from ops.broker.appending import appending
from ops.broker.copy.copying import KNOWN_S, Sending, change_settings, copying_settings, is_being_copied, make_topic
from ops.broker.declared import not_declared
from ops.errors import OpsError, cannot_run
from shared_kernel import log_registry
from shared_kernel.topics import REGISTRY

#: Header of the placeholder of a removed record: the digest of its value.
TAKEN_OUT = "groupbuy-taken-out"

Report = Callable[[str], None]


class Content(NamedTuple):
    """The offsets and the digest of the records of one partition."""

    begin: int
    end: int
    sha256: str


def spare_of(topic: str) -> str:
    """The name of a topic's temporary copy."""
    return f"{topic}.rebuild"


async def declared(kafka: Kafka) -> int:
    """The declared number of partitions, from the registry or its temporary copy while it is rebuilt."""
    for name in (REGISTRY.name, spare_of(REGISTRY.name)):
        found = await _first_declared(kafka, name)
        if found is not None:
            return found
    raise not_declared()


async def _first_declared(kafka: Kafka, name: str) -> int | None:
    """The number that was declared first. A second one is foreign and may be the record to remove."""
    known = log_registry.Registry()
    count = (await partition_counts(kafka, [TopicSpec(name, None, "", "", (), -1)])).get(name, 0)
    if count:
        async with PartitionReader.of_topic(kafka, name, count) as reading:
            async for _, record in reading.all_records():
                with suppress(TopicsDiffer):
                    known.take((record.key or b"").decode(errors="replace"), record.value)
    return known.declared.partitions if known.declared is not None else None


class Rebuild:
    """The rebuild of one topic. Use `run`."""

    def __init__(
        self, kafka: Kafka, spec: TopicSpec, partitions: int, report: Report, without: Collection[tuple[int, int]] = ()
    ) -> None:
        """`without` are partition and offset of the records to remove."""
        self._without = frozenset(without)
        self._kafka = kafka
        self._spec = spec
        self._partitions = partitions
        self._report = report
        self._spare = spare_of(spec.name)
        #: The replication factor.
        self._replication = 1
        self._admin: Any = AIOKafkaAdminClient(**client(kafka))

    async def run(self, *, dry_run: bool) -> None:
        """Rebuilds the topic, or continues an interrupted run. Raises OpsError."""
        await self._admin.start()
        try:
            await self._run(dry_run)
        finally:
            await self._admin.close()

    async def _run(self, dry_run: bool) -> None:
        name = self._spec.name
        counts = await self._counts()
        count = counts.get(name)
        out = count == self._partitions and self._spare not in counts and await self._has_records_to_remove()
        if count == self._partitions and self._spare not in counts and not out:
            self._report(f"{name} has {count} partitions, as declared")
            return
        if count is None and self._spare not in counts:
            raise cannot_run(f"the broker has no topic {name} and no copy of it")
        if count is not None and count < self._partitions:
            raise OpsError(f"{name} has {count} partitions, {self._partitions} are declared: a log is lost")
        await self._stopped()
        added = count is not None and count > self._partitions
        if added:
            await self._check_added(counts[name])
        if out:
            await self._remove_records(counts, dry_run)
            return
        if dry_run:
            would = f"{count} partitions would become {self._partitions}" if added else "a rebuild would be finished"
            self._report(f"{name}: {would}")
            return
        (row,) = await self._admin.describe_topics([name if count is not None else self._spare])
        self._replication = len(row["partitions"][0]["replicas"])
        if added:
            await self._copy_aside(counts)
        elif count is not None and not await is_being_copied(self._admin, name):
            # The topic gets its final settings last, so it is complete.
            await self._finish()
            if self._without:
                # The interrupted run had removed no record yet, or all of them.
                await self._run(dry_run)
            return
        elif count is not None:
            await self._delete(name)
        await self._copy_back()

    async def _remove_records(self, counts: dict[str, int], dry_run: bool) -> None:
        name = self._spec.name
        for one in sorted(self._without):
            self._report(f"{name} {one[0]}:{one[1]} {'would be' if dry_run else 'is'} removed")
        if dry_run:
            return
        (row,) = await self._admin.describe_topics([name])
        self._replication = len(row["partitions"][0]["replicas"])
        await self._copy_aside(counts)
        await self._copy_back()

    async def _has_records_to_remove(self) -> bool:
        """Whether a record to remove is in the topic."""
        for partition, offset in sorted(self._without):
            tp = TopicPartition(self._spec.name, partition)
            async with PartitionReader(self._kafka, [tp]) as reading:
                if not reading.begins[tp] <= offset < reading.ends[tp]:
                    raise cannot_run(f"{tp.topic} {partition} has no record at {offset}")
                async with aclosing(reading.records(tp, offset, offset + 1)) as records:
                    if any([not _is_placeholder(record) async for record in records]):
                        return True
        return False

    async def _copy_back(self) -> None:
        name = self._spec.name
        await self._make(name)
        await self._copy(self._spare, name, self._without)
        await self._compare(self._spare, name, self._without)
        await change_settings(self._admin, name, creation_config(self._spec, self._replication))
        await self._finish()

    async def _copy_aside(self, counts: dict[str, int]) -> None:
        name = self._spec.name
        if self._spare in counts:
            await self._delete(self._spare)
        await self._make(self._spare)
        await self._copy(name, self._spare)
        await self._compare(name, self._spare)
        # Kafka deletes the committed offsets of a deleted topic, so they are committed for the copy too.
        await self._carry_offsets(name, self._spare)
        self._report(f"{name} is copied to {self._spare} and compared")
        await self._delete(name)

    async def _finish(self) -> None:
        await self._carry_offsets(self._spare, self._spec.name)
        await self._delete(self._spare)
        self._report(f"{self._spec.name} is rebuilt with {self._partitions} partitions")

    async def _counts(self) -> dict[str, int]:
        specs = [TopicSpec(name, None, "", "", (), -1) for name in (self._spec.name, self._spare)]
        return await partition_counts(self._kafka, specs)

    async def _stopped(self) -> None:
        for group in self._spec.readers:
            (described,) = (await self._admin.describe_consumer_groups([group]))[0].groups
            if described[5]:
                raise cannot_run(f"{group} has members: stop the services, and wait until their sessions have expired")

    async def _check_added(self, count: int) -> None:
        added = [TopicPartition(self._spec.name, p) for p in range(self._partitions, count)]
        async with PartitionReader(self._kafka, added) as reading:
            full = [tp for tp in added if reading.ends[tp]]
        if full:
            partitions = ", ".join(str(tp.partition) for tp in full)
            raise OpsError(
                f"{self._spec.name}: added partition {partitions} has records that no service of ours wrote or read: "
                "inspect them with `groupbuy-ops tail`, and find out who wrote them"
            )

    async def _make(self, name: str) -> None:
        settings = copying_settings(self._spec, self._replication)
        await make_topic(self._admin, name, self._partitions, self._replication, settings)

    async def _delete(self, name: str) -> None:
        reply = await self._admin.delete_topics([name])
        for _, code in reply.topic_error_codes:
            if code:
                raise cannot_run(f"the broker did not delete {name}: {for_code(code).__name__}")
        until = asyncio.get_running_loop().time() + KNOWN_S
        while name in await self._admin.list_topics():
            if asyncio.get_running_loop().time() > until:
                raise cannot_run(f"the broker still lists {name} after {KNOWN_S:g} s: run it again")
            await asyncio.sleep(0.1)

    async def _copy(self, source: str, target: str, without: Collection[tuple[int, int]] = ()) -> None:
        async with (
            appending(self._kafka, linger_ms=5) as producer,
            PartitionReader.of_topic(self._kafka, source, self._partitions) as reading,
        ):
            for tp in reading.tps:
                await self._copy_partition(reading, tp, target, producer, without)

    async def _copy_partition(
        self,
        reading: PartitionReader,
        tp: TopicPartition,
        target: str,
        producer: AIOKafkaProducer,
        without: Collection[tuple[int, int]],
    ) -> None:
        begin, end = reading.begins[tp], reading.ends[tp]
        sending = Sending(producer, target, tp.partition)
        at = 0
        if not self._spec.compacted:
            # As many records as retention has deleted; they are deleted afterwards.
            while at < begin:
                await sending.send_filler()
                at += 1
        async with aclosing(reading.records(tp, begin, end)) as records:
            async for record in records:
                if not self._spec.compacted and record.offset != at:
                    raise OpsError(f"{tp.topic} {tp.partition} has no record at {at}: its offsets can't be kept")
                at += 1
                if (tp.partition, record.offset) in without:
                    if self._spec.compacted:
                        continue
                    key, value, headers = _placeholder(record)
                else:
                    key, value, headers = record.key, record.value, list(record.headers)
                await sending.send(value=value, key=key, timestamp_ms=record.timestamp, headers=headers)
        await sending.finish()
        if begin and not self._spec.compacted:
            await self._admin.delete_records(
                {TopicPartition(target, tp.partition): RecordsToDelete(before_offset=begin)}
            )

    async def _compare(self, source: str, target: str, without: Collection[tuple[int, int]] = ()) -> None:
        if await self._contents(source, without) != await self._contents(target):
            raise OpsError(f"{target} differs from {source}: nothing was deleted, run it again")

    async def _contents(self, name: str, without: Collection[tuple[int, int]] = ()) -> list[Content]:
        found = []
        async with PartitionReader.of_topic(self._kafka, name, self._partitions) as reading:
            for tp in reading.tps:
                begin, end = reading.begins[tp], reading.ends[tp]
                whole = sha256()
                async with aclosing(reading.records(tp, begin, end)) as records:
                    async for record in records:
                        place = () if self._spec.compacted else (record.offset,)
                        content = record.key, record.value, list(record.headers)
                        if (tp.partition, record.offset) in without:
                            if self._spec.compacted:
                                continue
                            content = _placeholder(record)
                        row = (*place, record.timestamp, *content)
                        whole.update(repr(row).encode())
                # A compacted topic has gaps, and nothing refers to its offsets.
                bounds = (0, 0) if self._spec.compacted else (begin, end)
                found.append(Content(*bounds, whole.hexdigest()))
        return found

    async def _carry_offsets(self, source: str, target: str) -> None:
        """Commits the offsets that readers have in the source topic for the target topic."""
        for group in self._spec.readers:
            committed = await self._admin.list_consumer_group_offsets(group)
            offsets = {tp.partition: one for tp, one in committed.items() if tp.topic == source and one.offset >= 0}
            offsets = {partition: one for partition, one in offsets.items() if partition < self._partitions}
            if not offsets:
                continue
            consumer = AIOKafkaConsumer(**client(self._kafka), group_id=group, enable_auto_commit=False)
            await consumer.start()
            try:
                consumer.assign([TopicPartition(target, partition) for partition in offsets])
                await consumer.commit({TopicPartition(target, partition): one for partition, one in offsets.items()})
            finally:
                await consumer.stop()


def _placeholder(record: Any) -> tuple[bytes, None, list[tuple[str, bytes]]]:
    """The placeholder of a removed record, which keeps the offsets of all others. A recorded skip covers it."""
    digest = sha256(record.value or b"").hexdigest()
    return record.key or b"taken-out", None, [(TAKEN_OUT, digest.encode())]


def _is_placeholder(record: Any) -> bool:
    return record.value is None and any(name == TAKEN_OUT for name, _ in record.headers)


async def rebuild(kafka: Kafka, specs: Sequence[TopicSpec], report: Report, *, dry_run: bool) -> None:
    """Rebuilds topics, one after the other."""
    number = await declared(kafka)
    for spec in specs:
        await Rebuild(kafka, spec, number, report).run(dry_run=dry_run)


async def remove_records(
    kafka: Kafka,
    spec: TopicSpec,
    places: Collection[tuple[int, int]],
    report: Report,
    skip: Callable[[int, int, int], Awaitable[None]],
    *,
    dry_run: bool,
) -> None:
    """Rebuilds a topic without some records. `skip` records a skip for partition and offset.

    A topic that is not compacted gets a placeholder without a value in their place, which every reader skips.
    """
    number = await declared(kafka)
    if not dry_run and not spec.compacted:
        # The skip comes first: readers reject a placeholder without one.
        for partition, offset in sorted(places):
            await skip(number, partition, offset)
    await Rebuild(kafka, spec, number, report, places).run(dry_run=dry_run)
