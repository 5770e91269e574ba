"""`topics copy`: copies the log to another cluster, with the offset, time, key, headers and value of each record.

A repeated run copies the new records only. While services write, a run stops at one moment: records have the broker's
time, and a record's cause is not younger than the record, so no record is copied without its cause. Committed offsets
are not copied: the logs prove them, and services commit them at their start. `topics open` ends the copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
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
from ops.broker.copying import Sending, change_settings, copying_settings, is_being_copied, make_topic
from ops.broker.declared import declared_partitions
from ops.errors import OpsError, cannot_run

#: Seconds before the start of a run whose records it leaves out while services write: more than the difference of the
#: clocks of the brokers and of this machine.
MARGIN_S = 5.0

Report = Callable[[str], None]


class Copied(NamedTuple):
    """What one run has appended to one topic."""

    topic: str
    records: int
    #: SHA-256 of these records: partition, offset, time, key, headers, value. The same was read from the target.
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

    async def run(self, replication: int, report: Report) -> list[Copied]:
        """Copies all new records and compares them. Raises OpsError."""
        number = await declared_partitions(self._source)
        if await self._are_services_running():
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

    async def _are_services_running(self) -> bool:
        for group in {reader for spec in self._specs for reader in spec.readers}:
            (described,) = (await self._from.describe_consumer_groups([group]))[0].groups
            if described[5]:
                return True
        return False

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
        records, digest = 0, sha256()
        async with (
            PartitionReader.of_topic(self._source, spec.name, number) as reading,
            PartitionReader.of_topic(self._target, spec.name, number) as before,
        ):
            copy = self._copy_compacted if spec.compacted else self._copy_partition
            for tp in reading.tps:
                sending = Sending(producer, spec.name, tp.partition)
                wanted = await copy(reading, before, tp, sending)
                await sending.finish()
                found = await self._appended(tp, before.ends[tp], offsets=not spec.compacted)
                if wanted != found:
                    raise OpsError(
                        f"the copy of {tp.topic} {tp.partition} differs from {before.ends[tp]} on: delete the copied "
                        "topics and start again"
                    )
                records += found[0]
                digest.update(found[1])
        return Copied(spec.name, records, digest.hexdigest())

    async def _copy_partition(
        self, reading: PartitionReader, before: PartitionReader, tp: TopicPartition, sending: Sending
    ) -> tuple[int, bytes]:
        """Appends the records after the end of the copy. Returns their number and digest."""
        begin, end, at = reading.begins[tp], reading.ends[tp], before.ends[tp]
        if at == 0 and begin > 0:
            # As many records as retention has deleted. They are deleted before the comparison.
            for _ in range(begin):
                await sending.send_filler()
            await sending.finish()
            await self._to.delete_records({tp: RecordsToDelete(before_offset=begin)})
            before.ends[tp] = at = begin
        if at < begin:
            raise OpsError(
                f"the copy of {tp.topic} {tp.partition} ends at {at}, and the source begins at {begin}: the records "
                "between were deleted. Copy to an empty cluster, and more often than the shortest retention"
            )
        if at > end:
            raise OpsError(f"{tp.topic} {tp.partition} of the copy has {at} records, of the source {end}: another log")
        await self._check_last(reading, before, tp, begin)
        records, digest = 0, sha256()
        async with aclosing(reading.records(tp, at, end)) as found:
            async for record in found:
                if self.until_ms is not None and record.timestamp > self.until_ms:
                    break
                if record.offset != at:
                    raise OpsError(f"{tp.topic} {tp.partition} has no record at {at}: its offsets can't be kept")
                at += 1
                records += 1
                digest.update(_bytes_of(record, offset=True))
                await _send(sending, record)
        return records, digest.digest()

    async def _copy_compacted(
        self, reading: PartitionReader, before: PartitionReader, tp: TopicPartition, sending: Sending
    ) -> tuple[int, bytes]:
        """Appends the records that the copy lacks. Nothing refers to the offsets of a compacted topic."""
        known = set()
        async with aclosing(before.records(tp, before.begins[tp], before.ends[tp])) as found:
            async for record in found:
                known.add(_bytes_of(record, offset=False))
        records, digest = 0, sha256()
        async with aclosing(reading.records(tp, reading.begins[tp], reading.ends[tp])) as found:
            async for record in found:
                if self.until_ms is not None and record.timestamp > self.until_ms:
                    break
                if (content := _bytes_of(record, offset=False)) in known:
                    continue
                records += 1
                digest.update(content)
                await _send(sending, record)
        return records, digest.digest()

    async def _check_last(
        self, reading: PartitionReader, before: PartitionReader, tp: TopicPartition, begin: int
    ) -> None:
        """Compares the last record of the copy with the source's at this offset."""
        last = before.ends[tp] - 1
        if last < begin or last < before.begins[tp]:
            return
        contents = []
        for one in (reading, before):
            async with aclosing(one.records(tp, last, last + 1)) as found:
                contents.append([_bytes_of(record, offset=True) async for record in found])
        if contents[0] != contents[1]:
            raise OpsError(f"{tp.topic} {tp.partition} {last} of the copy is another record than the source's")

    async def _appended(self, tp: TopicPartition, first: int, *, offsets: bool) -> tuple[int, bytes]:
        """Number and digest of the records that this run has appended to a partition of the target."""
        records, digest = 0, sha256()
        async with (
            PartitionReader(self._target, [tp]) as reading,
            aclosing(reading.records(tp, first, reading.ends[tp])) as found,
        ):
            async for record in found:
                records += 1
                digest.update(_bytes_of(record, offset=offsets))
        return records, digest.digest()


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


async def _send(sending: Sending, record: Any) -> None:
    headers = list(record.headers)
    await sending.send(value=record.value, key=record.key, timestamp_ms=record.timestamp, headers=headers)


def _bytes_of(record: Any, *, offset: bool) -> bytes:
    place = (record.offset,) if offset else ()
    return repr((*place, record.timestamp, record.key, list(record.headers), record.value)).encode()
