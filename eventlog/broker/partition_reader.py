"""Reads partitions outside any consumer group: for looks at a log that a processor or a person takes once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from eventlog.broker.security import Kafka, client

T = TypeVar("T")

#: Records of one step back through a partition.
PORTION = 5_000
#: Seconds without a record after which a read has failed.
SILENCE_S = 30.0


class Partitions:
    """Some partitions, each with its first offset and its end at the time of the start. An async context manager."""

    def __init__(self, kafka: Kafka, tps: Sequence[TopicPartition]) -> None:
        self.tps = list(tps)
        self._consumer = AIOKafkaConsumer(
            **client(kafka), enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100
        )
        self.begins: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}

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
        """Records of a partition from `first` up to but without `last`. Raises TimeoutError where none come."""
        if first >= last:
            return
        self._consumer.seek(tp, first)
        self._consumer.resume(tp)
        try:
            at = first
            while at < last:
                async with asyncio.timeout(SILENCE_S):
                    found: list[Any] = []
                    # Compaction leaves holes: the position moves on without a record.
                    while not found and at < last:
                        batches = await self._consumer.getmany(tp, timeout_ms=200, max_records=PORTION)
                        found = batches.get(tp, [])
                        at = await self._consumer.position(tp)
                for record in found:
                    if record.offset < last:
                        yield record
                # A process that reads has other work on this loop.
                await asyncio.sleep(0)
        finally:
            self._consumer.pause(tp)

    async def newest(self, tp: TopicPartition, wanted: Callable[[Any], T | None], portion: int = PORTION) -> T | None:
        """What `wanted` makes of the newest record that it does not answer None to; reads backwards in portions."""
        begin, last = self.begins[tp], self.ends[tp]
        while last > begin:
            first = max(begin, last - portion)
            found: T | None = None
            async for record in self.records(tp, first, last):
                one = wanted(record)
                found = found if one is None else one
            if found is not None:
                return found
            last = first
        return None

    async def everything(self) -> AsyncIterator[tuple[TopicPartition, Any]]:
        """All records of all partitions, each partition in order. Raises TimeoutError where none come."""
        async for tp, record in self.ranges({tp: (self.begins[tp], self.ends[tp]) for tp in self.tps}):
            yield tp, record

    async def ranges(
        self, wanted: Mapping[TopicPartition, tuple[int, int]]
    ) -> AsyncGenerator[tuple[TopicPartition, Any]]:
        """Records of several partitions at once, each from its first offset up to but without its last, in order.

        Raises TimeoutError where none come.
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
                        batches = await self._consumer.getmany(*left, timeout_ms=200, max_records=PORTION)
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
