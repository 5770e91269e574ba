"""Reads topics from their beginning to their current end, repeatedly for new records, or without end.

Read-only: joins no consumer group and commits no offsets.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from hashlib import sha256
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

from eventlog.broker.security import client
from eventlog.core.errors import TopicsDiffer
from ops.broker.connection import no_connection
from ops.errors import OpsError, cannot_run
from ops.security import cluster
from shared_kernel import log_registry

CLIENT = "groupbuy-ops"
BATCH_RECORDS = 20_000
#: One fetch waits for all its partitions, so an idle partition has to answer soon.
FETCH_MAX_WAIT_MS = 100
FETCH_BYTES = 4 * 1024 * 1024

#: Called with a topic and records of one of its partitions, in order.
Take = Callable[[str, list[Any]], None]

#: Topic, partition, offset and SHA-256 of the value.
Place = tuple[str, int, int, bytes]


async def skips(kafka: str) -> frozenset[Place]:
    """The records with a skip in the log's registry. Raises OpsError."""
    try:
        return frozenset((await log_registry.read(cluster(kafka))).skipped)
    except TopicsDiffer as error:
        raise OpsError(f"{kafka}: {error}") from error
    except KafkaConnectionError:
        raise no_connection(kafka) from None


def _place(tp: TopicPartition, record: Any) -> Place:
    return tp.topic, tp.partition, record.offset, sha256(record.value or b"").digest()


class Reader:
    """Reads topics or some of their partitions. Use as an async context manager."""

    def __init__(
        self,
        kafka: str,
        topics: Sequence[str],
        partitions: Collection[int] | None = None,
        *,
        skipped: Collection[Place] = (),
        fetch_bytes: int = FETCH_BYTES,
    ) -> None:
        """`topics` in the order in which their end offsets are read. `partitions` None reads all.

        `read_to_end` omits the records of `skipped`, which services skip: see `skips`. `fetch_bytes` bounds what is
        fetched ahead of a partition.
        """
        self._skipped = frozenset(skipped)
        self._kafka = kafka
        self._topics = topics
        self._only = partitions
        self._consumer = AIOKafkaConsumer(
            **client(cluster(kafka)),
            client_id=CLIENT,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            max_partition_fetch_bytes=fetch_bytes,
        )
        self._by_topic: dict[str, list[TopicPartition]] = {}
        self._partitions: dict[str, int] = {}

    async def __aenter__(self) -> Reader:
        try:
            await self._consumer.start()
        except KafkaConnectionError:
            await self._consumer.stop()
            raise no_connection(self._kafka) from None
        try:
            await self._assign()
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def _assign(self) -> None:
        # The consumer itself lists partitions only after a subscription, which would join a group.
        admin = AIOKafkaAdminClient(**client(cluster(self._kafka)), client_id=CLIENT)
        await admin.start()
        try:
            described = {row["topic"]: row for row in await admin.describe_topics(list(self._topics))}
        finally:
            await admin.close()
        for topic in self._topics:
            row = described.get(topic)
            if row is None or row["error_code"]:
                raise cannot_run(
                    f"the broker at {self._kafka} has no topic {topic}: create it with `groupbuy-ops topics create`"
                )
            found = sorted(one["partition"] for one in row["partitions"])
            self._partitions[topic] = len(found)
            self._by_topic[topic] = [
                TopicPartition(topic, one) for one in found if self._only is None or one in self._only
            ]
        assigned = [tp for tps in self._by_topic.values() for tp in tps]
        self._consumer.assign(assigned)
        # Paused until a read: otherwise a request for offsets waits behind each empty fetch.
        self._consumer.pause(*assigned)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    def partitions(self, topic: str) -> int:
        """The number of partitions of a topic at the broker."""
        return self._partitions[topic]

    async def beginnings(self) -> dict[tuple[str, int], int]:
        """The offset of the first record of each partition."""
        found: dict[TopicPartition, int] = {}
        for tps in self._by_topic.values():
            found.update(await self._consumer.beginning_offsets(tps))
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def ends(self) -> dict[TopicPartition, int]:
        """The end offsets of all partitions, read topic by topic in the order of the list."""
        found: dict[TopicPartition, int] = {}
        for tps in self._by_topic.values():
            found.update(await self._consumer.end_offsets(tps))
        return found

    async def seek_to_end(self) -> None:
        """Omits all existing records."""
        for tp, end in (await self.ends()).items():
            self._consumer.seek(tp, end)

    async def seek_to_time(self, since_ms: int) -> None:
        """Omits the records before a time, in milliseconds since the epoch."""
        for tps in self._by_topic.values():
            ends = await self._consumer.end_offsets(tps)
            for tp, found in (await self._consumer.offsets_for_times(dict.fromkeys(tps, since_ms))).items():
                self._consumer.seek(tp, ends[tp] if found is None else found.offset)

    def seek(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Omits the records before the positions, by topic and partition."""
        for tps in self._by_topic.values():
            for tp in tps:
                if (tp.topic, tp.partition) in positions:
                    self._consumer.seek(tp, positions[tp.topic, tp.partition])

    async def read_to_end(self, take: Take, lead_ms: float = math.inf) -> int:
        """Reads from the end of the last call to the current end. Returns the number of records.

        No partition gets further ahead of another than about `lead_ms`, by the broker's time of the records.
        """
        ends = await self.ends()
        left = set()
        for tp, end in ends.items():
            if await self._consumer.position(tp) < end:
                left.add(tp)
        self._consumer.resume(*left)
        self._consumer.pause(*(set(ends) - left))
        count = 0
        read_ms: dict[TopicPartition, float] = dict.fromkeys(left, 0)
        while left:
            earliest_ms = min(read_ms[tp] for tp in left)
            wanted_tps = [tp for tp in left if read_ms[tp] <= earliest_ms + lead_ms]
            batches = await self._consumer.getmany(*wanted_tps, timeout_ms=1000, max_records=BATCH_RECORDS)
            for tp, records in batches.items():
                read_ms[tp] = records[-1].timestamp
                wanted = [record for record in records if record.offset < ends[tp]]
                if len(wanted) < len(records):
                    # Beyond the end that was read: a later call takes them.
                    self._consumer.seek(tp, ends[tp])
                count += len(wanted)
                if self._skipped:
                    wanted = [record for record in wanted if _place(tp, record) not in self._skipped]
                if wanted:
                    take(tp.topic, wanted)
            for tp in list(left):
                # Positions, not offsets of records: a compacted topic may end with gaps.
                if await self._consumer.position(tp) >= ends[tp]:
                    left.discard(tp)
                    self._consumer.pause(tp)
        return count

    async def follow(self) -> AsyncIterator[Any]:
        """Every record from the current position on, without end."""
        self._consumer.resume(*(tp for tps in self._by_topic.values() for tp in tps))
        while True:
            for records in (await self._consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    yield record
