"""The consumer of a standby: reads the logs of the followed partitions, as a member of no group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from eventlog.broker.security import Kafka, client
from eventlog.processors.standby.followers import POLL_RECORDS, Followers, topic_partitions

#: Bytes of one partition and of all partitions in a fetch, and bytes that the broker gathers before it responds.
PARTITION_BYTES = 1 << 20
FETCH_BYTES = 8 << 20
MIN_FETCH_BYTES = 256 << 10
#: Milliseconds that the broker gathers at most, and that a poll waits for records.
FETCH_MAX_WAIT_MS = 300
POLL_MS = 200


class LogTruncated(Exception):
    """A log ends before the offset up to which it was folded."""


class LogReader:
    """Reads each followed partition from where it is folded to, and folds what comes."""

    def __init__(self, topics: Sequence[str], kafka: Kafka, client_id: str, followers: Followers) -> None:
        self._topics = tuple(topics)
        self._kafka = kafka
        self._client_id = client_id
        self._followers = followers
        self._consumer: Any = None
        #: Whether positions of the consumer may differ from those of the followers.
        self._stale = True
        #: Version of the followers that the consumer is assigned.
        self._version = -1

    async def assign_followed(self) -> None:
        """Makes the consumer read the followed partitions from their positions. Raises KafkaError."""
        if self._consumer is None:
            await self._connect()
        if not self._outdated:
            return
        self._stale, self._version = False, self._followers.version
        tps = topic_partitions(self._topics, self._followers.by_partition)
        self._consumer.assign(tps)
        begins = await self._consumer.beginning_offsets(tps) if tps else {}
        for tp in tps:
            followed = self._followers.by_partition.get(tp.partition)
            if followed is not None:
                at = max(followed.follower.positions.get(tp.topic, 0), begins[tp])
                self._consumer.seek(tp, at)
                followed.reached[tp.topic] = at

    @property
    def _outdated(self) -> bool:
        return self._stale or self._version != self._followers.version

    async def poll(self, tps: Sequence[TopicPartition]) -> None:
        """Folds records that have come, or waits for some. Raises KafkaError."""
        try:
            fetched = await self._consumer.getmany(*tps, timeout_ms=POLL_MS, max_records=POLL_RECORDS)
            for tp, records in fetched.items():
                await self._followers.fold(tp, records)
        except OffsetOutOfRangeError as error:
            self._stale = True
            await self._drop_truncated(error.args[0])
            return
        except BaseException:
            # Records that were fetched and not folded are read again.
            self._stale = True
            raise
        if self._outdated:
            return
        for tp in tps:
            followed = self._followers.by_partition[tp.partition]
            followed.reached[tp.topic] = await self._consumer.position(tp)
            followed.ends[tp.topic] = max(self._consumer.highwater(tp) or 0, followed.ends.get(tp.topic, 0))

    async def _drop_truncated(self, offsets: dict[TopicPartition, int]) -> None:
        """Drops followers beyond the ends of their logs. Those before the beginning continue from the beginning."""
        ends = await self._consumer.end_offsets(list(offsets))
        for tp, offset in offsets.items():
            followed = self._followers.by_partition.get(tp.partition)
            if followed is not None and offset > ends[tp]:
                async with followed.lock:
                    error = LogTruncated(f"{tp.topic}-{tp.partition} ends at {ends[tp]}, read to {offset}")
                    self._followers.fail(followed, error)

    async def ends(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Ends of logs, from the broker. Raises KafkaError."""
        found: dict[TopicPartition, int] = await self._consumer.end_offsets(tps)
        return found

    async def _connect(self) -> None:
        consumer = AIOKafkaConsumer(
            **client(self._kafka),
            client_id=self._client_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_bytes=FETCH_BYTES,
            fetch_min_bytes=MIN_FETCH_BYTES,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        )
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer
        self._stale = True

    async def disconnect(self) -> None:
        """Closes the consumer; the next `assign_followed` opens another."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()
