"""Appends records from outside the processors: what an API call states as a fact.

Must never report success before the broker has acknowledged with all in-sync replicas. An idempotent producer: what is
sent again by the client library is written once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from aiokafka import AIOKafkaProducer

from eventlog.errors import BrokerUnavailable
from eventlog.gathering import Gathering, Position, Record, Sending
from eventlog.security import Kafka, client
from eventlog.topics import partition_of


class Publishes(Protocol):
    """Appends records; Publisher is one."""

    async def publish(self, topic: str, record: Record, *, timeout_s: float | None = None) -> Position:
        """Appends one record within so many seconds, None: the publisher's own. Returns where it stands.

        Raises BrokerUnavailable.
        """
        ...


class Publisher:
    """One producer for all API calls of a process."""

    def __init__(self, kafka: Kafka, *, client_id: str, timeout_s: float = 10.0) -> None:
        self.partitions = 0
        self._timeout_s = timeout_s
        self._gatherings: dict[str, Gathering] = {}
        self._producer = AIOKafkaProducer(
            **client(kafka),
            client_id=client_id,
            acks="all",
            enable_idempotence=True,
            max_batch_size=256 * 1024,
            request_timeout_ms=int(timeout_s * 1000),
        )

    async def start(self, partitions: int) -> None:
        """Connects; every topic has so many partitions. Raises KafkaConnectionError when no broker answers."""
        await self._producer.start()
        self.partitions = partitions

    async def stop(self) -> None:
        """Sends what is pending and disconnects."""
        for gathering in self._gatherings.values():
            await gathering.drain()
        await self._producer.stop()

    async def publish(self, topic: str, record: Record, *, timeout_s: float | None = None) -> Position:
        """Appends one record and returns where it stands.

        Raises BrokerUnavailable when it was not acknowledged in time: it may still be written, and may be sent again.
        Raises ValueError when the record is larger than the broker takes.
        """
        (outcome,) = await self.publish_all(topic, (record,), timeout_s=timeout_s)
        if isinstance(outcome, BrokerUnavailable):
            raise outcome
        return outcome

    async def publish_all(
        self, topic: str, records: Sequence[Record], *, timeout_s: float | None = None
    ) -> list[Position | BrokerUnavailable]:
        """Appends the records, those of one partition in the order given. Says of each where it stands, or that it was
        not acknowledged in time: it may still be written, and may be sent again.

        Raises ValueError when one is larger than the broker takes.
        """
        if not self.partitions:
            return [BrokerUnavailable("not connected to the broker yet")] * len(records)
        if not records:
            return []
        gathering = self._gatherings.get(topic)
        if gathering is None:
            gathering = self._gatherings[topic] = Gathering(self._producer, topic)
        sending = Sending(len(records))
        for index, record in enumerate(records):
            gathering.add(partition_of(record.key, self.partitions), record, sending, index)
        within_s = self._timeout_s if timeout_s is None else timeout_s
        timer = asyncio.get_running_loop().call_later(within_s, sending.give_up)
        try:
            await sending.done
        finally:
            timer.cancel()
        late = BrokerUnavailable(f"no acknowledgement for {topic} in time")
        return [late if outcome is None else outcome for outcome in sending.found]
