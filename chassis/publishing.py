"""Appends many records at once: they travel in whole batches, one for each partition, side by side.

Must never report success before the broker has acknowledged with all in-sync replicas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError, KafkaTimeoutError

from eventlog.errors import BrokerUnavailable
from eventlog.publisher import Position, Publisher
from eventlog.security import Kafka
from eventlog.topics import partition_of


class Record(NamedTuple):
    """One record to append."""

    key: str
    value: bytes
    headers: list[tuple[str, bytes]]


class BatchPublisher(Publisher):
    """A publisher that appends many records as quickly as one."""

    def __init__(self, kafka: Kafka, *, client_id: str, timeout_s: float = 10.0) -> None:
        super().__init__(kafka, client_id=client_id, timeout_s=timeout_s)
        #: Whose batch of a topic's partition is handed over next: first come, first served.
        self._turns: dict[tuple[str, int], asyncio.Lock] = {}

    async def publish_all(
        self, topic: str, records: Sequence[Record], *, timeout_s: float | None = None
    ) -> list[Position | BrokerUnavailable]:
        """Appends the records, those of one partition in the order given. Says of each where it stands, or that it was
        not acknowledged in time: it may still be written, and may be sent again."""
        if not self.partitions:
            return [BrokerUnavailable("not connected to the broker yet")] * len(records)
        by_partition: dict[int, list[int]] = {}
        for index, record in enumerate(records):
            by_partition.setdefault(partition_of(record.key, self.partitions), []).append(index)
        found: list[Position | BrokerUnavailable] = [BrokerUnavailable("not sent")] * len(records)
        within_s = timeout_s or self._timeout_s

        async def append(partition: int, indexes: list[int]) -> None:
            try:
                async with asyncio.timeout(within_s):
                    await self._append(topic, partition, records, indexes, found)
            except TimeoutError:
                failed = BrokerUnavailable(f"no acknowledgement for {topic} in time")
            except KafkaError as error:
                failed = BrokerUnavailable(f"{topic}: {error!r}")
            else:
                return
            for index in indexes:
                if not isinstance(found[index], Position):
                    found[index] = failed

        await asyncio.gather(*(append(partition, indexes) for partition, indexes in by_partition.items()))
        return found

    async def _append(
        self,
        topic: str,
        partition: int,
        records: Sequence[Record],
        indexes: list[int],
        found: list[Position | BrokerUnavailable],
    ) -> None:
        """Appends the records of one partition, and notes where each stands."""
        sent: list[tuple[list[int], asyncio.Future[Any]]] = []
        batch = self._producer.create_batch()
        held: list[int] = []
        for index in indexes:
            if not _put(batch, records[index]):
                sent.append((held, await self._send(topic, partition, batch)))
                batch, held = self._producer.create_batch(), []
                if not _put(batch, records[index]):
                    raise ValueError(f"a record of {len(records[index].value)} bytes is larger than {topic} takes")
            held.append(index)
        sent.append((held, await self._send(topic, partition, batch)))
        for held, future in sent:
            # Shielded: a caller that gives up must not cancel what is on its way.
            done = await asyncio.shield(future)
            for place, index in enumerate(held):
                found[index] = Position(partition, done.offset + place, done.timestamp)

    async def _send(self, topic: str, partition: int, batch: Any) -> asyncio.Future[Any]:
        """Hands a batch over as soon as there is room for it, and returns the future of its acknowledgement."""
        batch.close()
        # aiokafka wakes all who wait for room at each batch that leaves, and lets any of them in. It also counts their
        # time wrongly: each wait is taken off again at every later one, so that of ten seconds little more than one is
        # left under load. Nothing has been handed over then; the time that the caller gave has an end of its own.
        async with self._turns.setdefault((topic, partition), asyncio.Lock()):
            while True:
                try:
                    future: asyncio.Future[Any] = await self._producer.send_batch(batch, topic, partition=partition)
                except KafkaTimeoutError:
                    await asyncio.sleep(0)
                else:
                    return future


def _put(batch: Any, record: Record) -> bool:
    """Puts a record into a batch; returns whether there was room."""
    metadata = batch.append(timestamp=None, key=record.key.encode(), value=record.value, headers=record.headers)
    return metadata is not None
