"""`topics copy`: copies the log to another cluster, with the offset, time, key, headers and value of each record.

A repeated run copies the new records only. While services write, a run stops at one moment: records have the broker's
time, and a record's cause is not younger than the record, so no record is copied without its cause. Committed offsets
are not copied: the logs prove them, and services commit them at their start. `topics open` ends the copy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from eventlog.admin.topic_creation import creation_config
from eventlog.broker.partition_reader import PartitionReader
from eventlog.broker.security import Kafka, client
from eventlog.broker.topic_checks import described_partition_counts
from eventlog.records.topic_spec import TopicSpec
from ops.broker.appending import appending
from ops.broker.copy.copying import Sending, change_settings, copying_settings, is_being_copied, make_topic
from ops.broker.declared import declared_partitions
from ops.errors import OpsError, cannot_run

#: Seconds before the start of a run whose records it leaves out while services write: more than the difference of the
#: clocks of the brokers and of this machine.
MARGIN_S = 5.0
#: Seconds in which the last members have left their consumer groups: twice the longest session of a killed service.
STOPPED_WITHIN_S = 60.0
_POLL_S = 0.5

Report = Callable[[str], None]


class Copied(NamedTuple):
    """The records that one run has appended to one topic."""

    topic: str
    records: int
    #: SHA-256 of these records: time, key, headers and value, by partition. The same was read from the target.
    sha256: str


class LogCopy:
    """One run from a source cluster to a target cluster. An async context manager."""

    def __init__(self, source: Kafka, target: Kafka, specs: Sequence[TopicSpec]) -> None:
        self._source = source
        self._target = target
        self._specs = specs
        self._from: Any = AIOKafkaAdminClient(**client(source))
        self._to: Any = AIOKafkaAdminClient(**client(target))
        #: Records with a later time are left out; None: none are.
        self.until_ms: int | None = None

    async def __aenter__(self) -> LogCopy:
        await self._from.start()
        try:
            await self._to.start()
        except BaseException:
            await self._from.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._to.close()
        await self._from.close()

    async def run(
        self, replication: int, report: Report, *, final: bool = False, stopped_within_s: float = STOPPED_WITHIN_S
    ) -> list[Copied]:
        """Copies all new records and compares them. Raises OpsError.

        A run is `final` if the services have ended: it waits until the broker has noticed it and leaves nothing out.
        """
        number = await declared_partitions(self._source)
        if final:
            await self._wait_stopped(report, stopped_within_s)
        elif await self._group_with_members() is not None:
            self.until_ms = int((time.time() - MARGIN_S) * 1000)
            report(f"services are running: records of the last {MARGIN_S:g} s are left out")
        await self._prepare(number, replication)
        copied = []
        async with appending(self._target, linger_ms=5) as producer:
            for spec in self._specs:
                one = await self._copy_topic(spec, number, producer)
                copied.append(one)
                if one.records:
                    report(f"{spec.name}: {one.records:,} records copied and compared")
        return copied

    async def _wait_stopped(self, report: Report, within_s: float) -> None:
        """Waits for the end of the sessions of killed services. Raises OpsError if a service runs."""
        deadline = time.monotonic() + within_s
        waiting = False
        while (group := await self._group_with_members()) is not None:
            if time.monotonic() >= deadline:
                raise OpsError(f"{group} has members after {within_s:.0f} s: stop the services, or omit --final")
            if not waiting:
                report("waiting until the sessions of the services have ended")
            waiting = True
            await asyncio.sleep(_POLL_S)

    async def _group_with_members(self) -> str | None:
        """A consumer group of a running service, or of one that was killed less than its session ago."""
        for group in sorted({reader for spec in self._specs for reader in spec.readers}):
            (described,) = (await self._from.describe_consumer_groups([group]))[0].groups
            if described[5]:
                return group
        return None

    async def _prepare(self, number: int, replication: int) -> None:
        existing = set(await self._to.list_topics())
        counts = await described_partition_counts(self._to, [one.name for one in self._specs if one.name in existing])
        for spec in self._specs:
            count = counts.get(spec.name)
            if count is None:
                await make_topic(self._to, spec.name, number, replication, copying_settings(spec, replication))
            elif count != number or not await is_being_copied(self._to, spec.name):
                raise cannot_run(
                    f"the target has {spec.name}, and it is no unfinished copy of {number} partitions: copy to a "
                    "cluster without these topics"
                )

    async def _copy_topic(self, spec: TopicSpec, number: int, producer: AIOKafkaProducer) -> Copied:
        async with (
            PartitionReader.of_topic(self._source, spec.name, number) as reading,
            PartitionReader.of_topic(self._target, spec.name, number) as before,
        ):
            parts = {tp: _Part(Sending(producer, spec.name, tp.partition)) for tp in reading.tps}
            if spec.compacted:
                await self._append_missing(reading, before, parts)
            else:
                await self._append(reading, before, parts)
        await asyncio.gather(*(part.sending.finish() for part in parts.values()))
        found = await self._appended(spec, number, before.ends)
        for tp, part in parts.items():
            if part.sums != found[tp]:
                raise OpsError(
                    f"the copy of {tp.topic} {tp.partition} differs from {before.ends[tp]} on: delete the copied "
                    "topics and start again"
                )
        digest = sha256(b"".join(part.sums.digest() for part in parts.values()))
        return Copied(spec.name, sum(part.sums.records for part in parts.values()), digest.hexdigest())

    async def _append(
        self, reading: PartitionReader, before: PartitionReader, parts: Mapping[TopicPartition, _Part]
    ) -> None:
        """Appends the records after the end of the copy, under their own offsets."""
        for tp, part in parts.items():
            await self._check_bounds(tp, reading, before, part)
        await self._check_last(reading, before)
        wanted = {tp: (before.ends[tp], reading.ends[tp]) for tp in parts}
        next_offset = dict(before.ends)
        async with aclosing(reading.ranges(wanted)) as records:
            async for tp, record in records:
                part = parts[tp]
                part.over = part.over or self._is_too_new(record)
                if part.over:
                    continue
                if record.offset != next_offset[tp]:
                    place = f"{tp.topic} {tp.partition}"
                    raise OpsError(f"{place} has no record at {next_offset[tp]}: its offsets can't be kept")
                next_offset[tp] += 1
                part.sums.add(record)
                await part.send(record)

    async def _check_bounds(
        self, tp: TopicPartition, reading: PartitionReader, before: PartitionReader, part: _Part
    ) -> None:
        begin, end, at = reading.begins[tp], reading.ends[tp], before.ends[tp]
        if at == 0 and begin > 0:
            # As many records as retention has deleted. They are deleted before the comparison.
            for _ in range(begin):
                await part.sending.send_filler()
            await part.sending.finish()
            await self._to.delete_records({tp: RecordsToDelete(before_offset=begin)})
            before.begins[tp] = before.ends[tp] = at = begin
        if at < begin:
            raise OpsError(
                f"the copy of {tp.topic} {tp.partition} ends at {at}, and the source begins at {begin}: the records "
                "between were deleted. Copy to an empty cluster, and more often than the shortest retention"
            )
        if at > end:
            raise OpsError(f"{tp.topic} {tp.partition} of the copy has {at} records, of the source {end}: another log")

    async def _check_last(self, reading: PartitionReader, before: PartitionReader) -> None:
        """Compares the last record of each partition of the copy with the source's at this offset."""
        wanted = {
            tp: (end - 1, end) for tp, end in before.ends.items() if end > max(reading.begins[tp], before.begins[tp])
        }
        contents = []
        for one in (reading, before):
            async with aclosing(one.ranges(wanted)) as records:
                contents.append({tp: (record.offset, _bytes_of(record)) async for tp, record in records})
        for tp, (first, _) in wanted.items():
            if contents[0].get(tp) != contents[1].get(tp):
                raise OpsError(f"{tp.topic} {tp.partition} {first} of the copy is another record than the source's")

    async def _append_missing(
        self, reading: PartitionReader, before: PartitionReader, parts: Mapping[TopicPartition, _Part]
    ) -> None:
        """Appends the records that the copy lacks. Nothing refers to the offsets of a compacted topic."""
        known = {(tp, _bytes_of(record)) async for tp, record in before.all_records()}
        async for tp, record in reading.all_records():
            part = parts[tp]
            part.over = part.over or self._is_too_new(record)
            if not part.over and (tp, _bytes_of(record)) not in known:
                part.sums.add(record)
                await part.send(record)

    def _is_too_new(self, record: Any) -> bool:
        return self.until_ms is not None and record.timestamp > self.until_ms

    async def _appended(
        self, spec: TopicSpec, number: int, first: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, _Sums]:
        """The records that this run has appended to each partition of the target."""
        async with PartitionReader.of_topic(self._target, spec.name, number) as reading:
            found = {tp: _Sums() for tp in reading.tps}
            wanted = {tp: (first[tp], reading.ends[tp]) for tp in reading.tps}
            expected = dict(first)
            async with aclosing(reading.ranges(wanted)) as records:
                async for tp, record in records:
                    if record.offset != expected[tp]:
                        raise OpsError(f"the copy of {tp.topic} {tp.partition} has no record at {expected[tp]}")
                    expected[tp] += 1
                    found[tp].add(record)
        return found


class _Sums:
    """Number and digest of the records of a partition, in their order."""

    def __init__(self) -> None:
        self.records = 0
        self._sha256 = sha256()

    def add(self, record: Any) -> None:
        """Takes the next record."""
        self.records += 1
        self._sha256.update(_bytes_of(record))

    def digest(self) -> bytes:
        """The digest so far."""
        return self._sha256.digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sums) and (self.records, self.digest()) == (other.records, other.digest())

    __hash__ = None  # type: ignore[assignment] # it changes


@dataclass(slots=True)
class _Part:
    """One partition of a run."""

    sending: Sending
    sums: _Sums = field(default_factory=_Sums)
    #: Whether a record was too new: all later ones are left out too.
    over: bool = False

    async def send(self, record: Any) -> None:
        """Appends a copy of a record."""
        headers = list(record.headers)
        await self.sending.send(value=record.value, key=record.key, timestamp_ms=record.timestamp, headers=headers)


async def open_copy(target: Kafka, specs: Sequence[TopicSpec]) -> list[str]:
    """Gives copied topics their own settings, so that services can start. Returns their names. Raises OpsError."""
    admin: Any = AIOKafkaAdminClient(**client(target))
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        if missing := [spec.name for spec in specs if spec.name not in existing]:
            raise OpsError(f"the copy has no {', '.join(missing)}: repeat `topics copy`")
        opened = []
        for spec in specs:
            if await is_being_copied(admin, spec.name):
                (row,) = await admin.describe_topics([spec.name])
                replication = len(row["partitions"][0]["replicas"])
                await change_settings(admin, spec.name, creation_config(spec, replication))
                opened.append(spec.name)
        return opened
    finally:
        await admin.close()


def _bytes_of(record: Any) -> bytes:
    return repr((record.timestamp, record.key, list(record.headers), record.value)).encode()
