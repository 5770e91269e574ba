"""Reads a compacted topic whole and keeps the latest value of each key, for what every process wants to know by heart.

It has no consumer group: every process reads all partitions from the beginning. What it does not know may still be
under way, so before something is called unknown the topic is read to its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from eventlog.crash import die
from eventlog.errors import BrokerUnavailable
from eventlog.security import Kafka, client
from eventlog.watch import Watchers

log = logging.getLogger(__name__)

T = TypeVar("T")


class CompactedReader(Generic[T]):
    """Latest value by key of one topic."""

    def __init__(self, kafka: Kafka, topic: str, decode: Callable[[bytes], T], *, client_id: str) -> None:
        self._topic = topic
        self._decode = decode
        self._values: dict[str, T] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._consumer = AIOKafkaConsumer(
            **client(kafka),
            client_id=client_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        self.watchers = Watchers()
        self.undecodable = 0

    async def start(self, partitions: int) -> None:
        """Reads the topic to its end, then goes on reading behind the scenes."""
        await self._consumer.start()
        tps = [TopicPartition(self._topic, partition) for partition in range(partitions)]
        self._consumer.assign(tps)
        await self._consumer.seek_to_beginning(*tps)
        self._positions = dict(await self._consumer.beginning_offsets(tps))
        self._task = asyncio.get_running_loop().create_task(self._read())
        self._task.add_done_callback(self._ended)
        await self.refresh()

    async def stop(self) -> None:
        """Stops reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    def find(self, key: str) -> T | None:
        """The value of a key as far as it has been read."""
        return self._values.get(key)

    def values(self) -> list[T]:
        """All values as far as they have been read."""
        return list(self._values.values())

    async def find_fresh(self, key: str) -> T | None:
        """The value of a key; None only when the topic, read to its present end, has none."""
        found = self._values.get(key)
        if found is None:
            await self.refresh()
            found = self._values.get(key)
        return found

    async def refresh(self) -> None:
        """Returns when everything is read that was in the topic at the call. Raises BrokerUnavailable."""
        try:
            ends = await self._consumer.end_offsets(list(self._positions))
        except KafkaError as error:
            raise BrokerUnavailable(f"the end of {self._topic} is not known: {error!r}") from error
        while any(self._positions[tp] < end for tp, end in ends.items()):
            self._progress.clear()
            await self._progress.wait()

    async def _read(self) -> None:
        while True:
            fetched: dict[TopicPartition, list[Any]] = await self._consumer.getmany(timeout_ms=200)
            for tp, records in fetched.items():
                for record in records:
                    self._take(record)
                self._positions[tp] = records[-1].offset + 1
            # Compaction may have taken the last records before the end: the consumer's own position tells.
            for tp in self._positions:
                position = await self._consumer.position(tp)
                self._positions[tp] = max(self._positions[tp], position)
            self._progress.set()

    def _take(self, record: Any) -> None:
        key = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self._values.pop(key, None)
        else:
            try:
                self._values[key] = self._decode(record.value)
            except ValueError as error:
                self.undecodable += 1
                log.error("%s offset %s can't be decoded: %r", self._topic, record.offset, error)
                return
        self.watchers.notify(key)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            die("reading a topic ended", task.exception(), topic=self._topic)
