"""Appends records from outside the processors: what an API call states as a fact.

Success is reported once the broker has acknowledged with all in-sync replicas. The producer is idempotent: a batch that
the client library sends again is written once.

A producer that failed a batch, for want of a leader or because the broker refused it, is replaced. It has used up the
batch's sequence numbers, so the broker would refuse every later batch of that partition as out of order, for ever. A
new producer has a new id, and sequences of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from eventlog.broker.security import Kafka, client
from eventlog.core.errors import BrokerUnavailable
from eventlog.core.partitioner import partition_of
from eventlog.processors.lanes import cancelled_by_us
from eventlog.producing.record_accumulator import DeliveryReport, Position, Record, RecordAccumulator
from eventlog.runtime.abort import abort

log = logging.getLogger(__name__)

#: Least time between the starts of two producers, and the pause after a start that failed.
RENEW_S = 1.0


class Publishes(Protocol):
    """Appends records; Publisher is one."""

    async def publish(self, topic: str, record: Record, *, timeout_s: float | None = None) -> Position:
        """Appends one record within so many seconds, None: the publisher's own. Returns where it stands.

        Raises BrokerUnavailable.
        """
        ...


class Publisher:
    """All API calls of a process publish by it, with one producer at a time."""

    def __init__(self, kafka: Kafka, *, client_id: str, timeout_s: float = 10.0) -> None:
        self.partitions = 0
        #: Producers that were replaced.
        self.replaced = 0
        self._kafka = kafka
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._gatherings: dict[str, RecordAccumulator] = {}
        #: None before the start, and while it is replaced.
        self._producer: Any = None
        self._started_at = 0.0
        self._renewing: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def ready(self) -> bool:
        """Whether there is a producer that takes records."""
        return self._producer is not None

    async def start(self, partitions: int) -> None:
        """Connects; every topic has so many partitions. Raises KafkaConnectionError when no broker answers."""
        self._producer = await self._new_producer()
        self.partitions = partitions

    async def stop(self) -> None:
        """Sends what is pending and disconnects."""
        self._stopping = True
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        for gathering in self._gatherings.values():
            await gathering.drain()
        if self._retiring:
            await asyncio.wait(self._retiring)
        if self._producer is not None:
            await self._producer.stop()

    async def _new_producer(self) -> Any:
        """A producer that has its id. Raises KafkaError and TimeoutError."""
        self._started_at = asyncio.get_running_loop().time()
        producer = AIOKafkaProducer(
            **client(self._kafka),
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            max_batch_size=256 * 1024,
            request_timeout_ms=int(self._timeout_s * 1000),
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                await producer.start()
        except BaseException:
            await producer.stop()
            raise
        # It may end without failing what it was to send.
        producer._sender.sender_task.add_done_callback(partial(self._sender_ended, producer))
        return producer

    def _sender_ended(self, producer: Any, task: asyncio.Task[None]) -> None:
        # Cancelled by the stop, or by the end of the event loop.
        if not task.cancelling():
            self._spent(producer, None)

    async def _current(self) -> Any:
        """The producer; where it is being replaced, the next one. Raises ProducerClosed."""
        while self._producer is None:
            if self._stopping or self._renewing is None:
                raise ProducerClosed
            await asyncio.wait([self._renewing])
        return self._producer

    def _spent(self, producer: Any, error: BaseException | None) -> None:
        """Replaces a producer that can write no more, or not everywhere."""
        if producer is not self._producer or self._stopping:
            return
        log.warning(
            "the producer is replaced: %s", "its sender ended" if error is None else f"a batch failed, {error!r}"
        )
        self.replaced += 1
        self._producer = None
        loop = asyncio.get_running_loop()
        self._renewing = loop.create_task(self._renew(), name="new producer")
        self._renewing.add_done_callback(self._renewed)
        retiring = loop.create_task(self._retire(producer), name="old producer")
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(self._started_at + RENEW_S - loop.time(), 0))
            try:
                self._producer = await self._new_producer()
            except (KafkaError, OSError, TimeoutError, asyncio.CancelledError) as error:
                if cancelled_by_us():
                    raise
                log.warning("there is no producer yet, trying again: %r", error)
            else:
                return

    def _renewed(self, task: asyncio.Task[None]) -> None:
        # Without it all calls would wait for a producer for ever.
        if not task.cancelled() and (error := task.exception()) is not None:
            abort("the producer could not be replaced", error)

    async def _retire(self, producer: Any) -> None:
        """Lets a producer finish what it has of other partitions."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await producer.stop()
        except Exception as error:  # noqa: BLE001 - what it still has is given up below
            log.warning("the producer that was replaced did not end by itself: %r", error)
            producer._sender.sender_task.cancel()
            await producer.client.close()
        finally:
            for gathering in self._gatherings.values():
                gathering.give_up(producer)

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
            gathering = self._gatherings[topic] = RecordAccumulator(self._current, self._spent, topic)
        sending = DeliveryReport(len(records))
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
