"""A reader of partitions outside any consumer group, for processors and tools that read a part of a log once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from eventlog.broker.security import Kafka, client

T = TypeVar("T")

#: Maximum records of one poll, and of one step backwards through a partition.
BLOCK = 5_000
#: Seconds without a record after which a read fails.
SILENCE_S = 30.0


class PartitionReader:
    """A reader of some partitions. An async context manager that reads each partition's bounds when it is entered."""

    def __init__(self, kafka: Kafka, tps: Sequence[TopicPartition]) -> None:
        self.tps = list(tps)
        self._consumer = AIOKafkaConsumer(
            **client(kafka), enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100
        )
        #: First offset and end offset of each partition.
        self.begins: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}

    @classmethod
    def of_topic(cls, kafka: Kafka, topic: str, partitions: int) -> Self:
        """A reader of all partitions of a topic; `partitions` is their number."""
        return cls(kafka, [TopicPartition(topic, partition) for partition in range(partitions)])

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
            self._consumer.assign(self.tps)
            self._consumer.pause(*self.tps)
            self.begins = await self._consumer.beginning_offsets(self.tps)
            self.ends = await self._consumer.end_offsets(self.tps)
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def records(self, tp: TopicPartition, first: int, last: int) -> AsyncGenerator[Any]:
        """Yields the records of a partition from `first` up to, but not including, `last`. Raises TimeoutError."""
        if first >= last:
            return
        self._consumer.seek(tp, first)
        self._consumer.resume(tp)
        try:
            at = first
            while at < last:
                async with asyncio.timeout(SILENCE_S):
                    found: list[Any] = []
                    # Compaction leaves gaps: the position can advance without a record.
                    while not found and at < last:
                        batches = await self._consumer.getmany(tp, timeout_ms=200, max_records=BLOCK)
                        found = batches.get(tp, [])
                        at = await self._consumer.position(tp)
                for record in found:
                    if record.offset < last:
                        yield record
                # Let the process do its other work.
                await asyncio.sleep(0)
        finally:
            self._consumer.pause(tp)

    async def find_newest(self, tp: TopicPartition, find: Callable[[Any], T | None], block: int = BLOCK) -> T | None:
        """The result of `find` for the newest record for which it is not None. Reads backwards, block by block."""
        begin, last = self.begins[tp], self.ends[tp]
        while last > begin:
            first = max(begin, last - block)
            found: T | None = None
            async for record in self.records(tp, first, last):
                one = find(record)
                found = found if one is None else one
            if found is not None:
                return found
            last = first
        return None

    async def all_records(self) -> AsyncIterator[tuple[TopicPartition, Any]]:
        """Yields all records of all partitions, each partition in order. Raises TimeoutError."""
        async for tp, record in self.ranges({tp: (self.begins[tp], self.ends[tp]) for tp in self.tps}):
            yield tp, record

    async def ranges(
        self, wanted: Mapping[TopicPartition, tuple[int, int]]
    ) -> AsyncGenerator[tuple[TopicPartition, Any]]:
        """Yields the records of several partitions, each in order from its first offset up to, but not including, its
        last. Raises TimeoutError.
        """
        left = {tp for tp, (first, last) in wanted.items() if first < last}
        for tp in left:
            self._consumer.seek(tp, wanted[tp][0])
        self._consumer.resume(*left)
        try:
            while left:
                async with asyncio.timeout(SILENCE_S):
                    batches: dict[TopicPartition, list[Any]] = {}
                    while not batches and left:
                        batches = await self._consumer.getmany(*left, timeout_ms=200, max_records=BLOCK)
                        for tp in list(left):
                            if await self._consumer.position(tp) >= wanted[tp][1]:
                                left.discard(tp)
                                self._consumer.pause(tp)
                for tp, records in batches.items():
                    for record in records:
                        if record.offset < wanted[tp][1]:
                            yield tp, record
                await asyncio.sleep(0)
        finally:
            self._consumer.pause(*left)
