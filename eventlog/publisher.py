"""Appends records from outside the processors: what an API call states as a fact.

Must never report success before the broker has acknowledged with all in-sync replicas. An idempotent producer: what is
sent again by the client library is written once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from eventlog.errors import BrokerUnavailable
from eventlog.security import Kafka, client
from eventlog.topics import partition_of


class Position(NamedTuple):
    """Where a record stands, and the broker's time of it in milliseconds since the epoch."""

    partition: int
    offset: int
    timestamp_ms: int


class Publishes(Protocol):
    """Appends records; Publisher is one."""

    async def publish(
        self,
        topic: str,
        key: str,
        value: bytes,
        headers: Sequence[tuple[str, bytes]],
        *,
        timeout_s: float | None = None,
    ) -> Position:
        """Appends one record and returns where it stands. Raises BrokerUnavailable."""
        ...


class Publisher:
    """One producer for all API calls of a process."""

    def __init__(self, kafka: Kafka, *, client_id: str, timeout_s: float = 10.0) -> None:
        self.partitions = 0
        self._timeout_s = timeout_s
        self._producer = AIOKafkaProducer(
            **client(kafka),
            client_id=client_id,
            acks="all",
            enable_idempotence=True,
            # As the Java client since 4.0: what a record waits for others, all save at the broker and after it.
            linger_ms=5,
            max_batch_size=256 * 1024,
            request_timeout_ms=int(timeout_s * 1000),
        )

    async def start(self, partitions: int) -> None:
        """Connects; every topic has so many partitions. Raises KafkaConnectionError when no broker answers."""
        await self._producer.start()
        self.partitions = partitions

    async def stop(self) -> None:
        """Sends what is pending and disconnects."""
        await self._producer.stop()

    async def publish(
        self,
        topic: str,
        key: str,
        value: bytes,
        headers: Sequence[tuple[str, bytes]],
        *,
        timeout_s: float | None = None,
    ) -> Position:
        """Appends one record and returns where it stands.

        Raises BrokerUnavailable when it was not acknowledged in time: it may still be written, and may be sent again.
        Raises ValueError when the record is larger than the broker takes.
        """
        if not self.partitions:
            raise BrokerUnavailable("not connected to the broker yet")
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                future = await self._producer.send(
                    topic,
                    value,
                    key=key.encode(),
                    partition=partition_of(key, self.partitions),
                    headers=list(headers),
                )
                # Shielded: a caller that gives up must not cancel a batch that others share.
                done = await asyncio.shield(future)
        except TimeoutError:
            raise BrokerUnavailable(f"no acknowledgement for {topic} in time") from None
        except MessageSizeTooLargeError as error:
            raise ValueError(f"a record of {len(value)} bytes is larger than {topic} takes") from error
        except KafkaError as error:
            raise BrokerUnavailable(f"{topic}: {error!r}") from error
        return Position(done.partition, done.offset, done.timestamp)
