"""Reads how far each consumer group is behind, from the committed offsets and the broker's timestamps.

Joins no group. Seconds are the age of the next record that is not committed, by LogAppendTime.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from eventlog.broker.group_members import Member, describe
from eventlog.broker.security import Kafka, client
from eventlog.broker.topic_checks import partition_counts
from eventlog.runtime.wall_clock import wall_clock_ms
from ops.errors import OpsError
from shared_kernel.topics import ALL, OF_INVENTORY

CLIENT = "groupbuy-ops"
#: Seconds between two readings of `follow`, and two attempts at a broker that is away.
POLL_S = 2.0
RETRY_S = 1.0
#: Seconds to read the next record of all partitions of one group.
_NEXT_S = 5.0

#: Topics by consumer group.
READERS: dict[str, tuple[str, ...]] = {
    reader: tuple(spec.name for spec in ALL if reader in spec.readers)
    for reader in sorted({reader for spec in ALL for reader in spec.readers})
}
#: The groups of the inventory service. Most installations do not run it; there nobody ever joins these groups, and they
#: are no readers: nothing shows their lag, and nothing waits for their members.
OPTIONAL = OF_INVENTORY


class PartitionLag(NamedTuple):
    """The progress of a group in one partition."""

    group: str
    topic: str
    partition: int
    #: The next offset to read; None: the group has no committed offset.
    position: int | None
    end: int
    #: Records to read.
    records: int
    #: Age of the next record to read; 0: nothing to read; None: not known.
    seconds: float | None
    #: Address of the replica that owns the partition, or its instance name; empty: no replica does.
    owner: str


class Lags(NamedTuple):
    """The progress of the groups that are in use."""

    rows: list[PartitionLag]
    #: The number of members by group.
    members: dict[str, int]

    def of(self, group: str) -> list[PartitionLag]:
        """The rows of one group."""
        return [row for row in self.rows if row.group == group]


class LagReader:
    """Reads the progress of all groups, again and again. An async context manager. All methods raise KafkaError."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._admin = AIOKafkaAdminClient(**client(kafka), client_id=CLIENT)
        self._consumer = AIOKafkaConsumer(
            **client(kafka),
            client_id=CLIENT,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=16 * 1024,
        )
        self._counts: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        try:
            await self._admin.start()
            await self._consumer.start()
            self._counts = await partition_counts(self._kafka, ALL)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._consumer.stop()
        await self._admin.close()

    async def read(self, groups: Sequence[str] = tuple(READERS)) -> Lags:
        """The progress of some groups, without those of OPTIONAL that nobody ever joined."""
        rows: list[PartitionLag] = []
        members: dict[str, int] = {}
        for group in groups:
            described = await describe(self._admin, group)
            if group in OPTIONAL and not described.joined:
                continue
            members[group] = len(described.members)
            rows += await self._read_group(group, described.members)
        return Lags(rows, members)

    async def _read_group(self, group: str, members: Sequence[Member]) -> list[PartitionLag]:
        # Committed offsets first: an end that is read later is never before them.
        committed = await self._admin.list_consumer_group_offsets(group)
        tps = [TopicPartition(topic, p) for topic in READERS[group] for p in range(self._counts.get(topic, 0))]
        begins = await self._consumer.beginning_offsets(tps)
        ends = await self._consumer.end_offsets(tps)
        positions = {tp: committed[tp].offset for tp in tps if tp in committed and committed[tp].offset >= 0}
        starts = {tp: max(positions.get(tp, 0), begins[tp]) for tp in tps}
        next_records = await self._next({tp: start for tp, start in starts.items() if start < ends[tp]})
        now_ms = wall_clock_ms()
        owners = {
            (topic, partition): member.address or member.instance
            for member in members
            for topic, partitions in member.partitions.items()
            for partition in partitions
        }
        rows = []
        for tp in tps:
            records = max(0, ends[tp] - starts[tp])
            seconds: float | None = 0.0
            if records:
                found = next_records.get(tp)
                seconds = None if found is None else max(0.0, (now_ms - found.timestamp) / 1000)
            owner = owners.get((tp.topic, tp.partition), "")
            rows.append(
                PartitionLag(group, tp.topic, tp.partition, positions.get(tp), ends[tp], records, seconds, owner)
            )
        return rows

    async def _next(self, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, Any]:
        """The first record of each partition from an offset on."""
        found: dict[TopicPartition, Any] = {}
        if not starts:
            return found
        self._consumer.assign(list(starts))
        for tp, offset in starts.items():
            self._consumer.seek(tp, offset)
        left = set(starts)
        try:
            async with asyncio.timeout(_NEXT_S):
                while left:
                    for tp, records in (await self._consumer.getmany(*left, timeout_ms=200)).items():
                        if records:
                            found[tp] = records[0]
                            left.discard(tp)
                            self._consumer.pause(tp)
        except TimeoutError:
            # The rows of these partitions have no seconds.
            pass
        return found

    async def next_record(self, topic: str, partition: int, position: int) -> Any:
        """The first record of a partition from a position on; None if none arrives in time."""
        tp = TopicPartition(topic, partition)
        return (await self._next({tp: position})).get(tp)


async def follow(address: Callable[[], Kafka], failed: Callable[[Exception], None]) -> AsyncIterator[Lags]:
    """Reads the lag every POLL_S seconds, without end. `failed` takes each error of the broker; a retry follows."""
    while True:
        try:
            async with LagReader(address()) as reader:
                while True:
                    yield await reader.read()
                    await asyncio.sleep(POLL_S)
        except (KafkaError, OSError, OpsError) as error:
            failed(error)
            await asyncio.sleep(RETRY_S)
