"""A publisher of records that do not come from a processor, such as the facts of API calls.

A record counts as written when all in-sync replicas have acknowledged it. The producer is idempotent: a batch that the
client library retries is written once.

A producer that failed a batch is replaced, whether no leader was available or the broker rejected the batch. The failed
batch has used up sequence numbers, so the broker would reject every later batch of that partition as out of order. A
new producer has a new id and new sequence numbers.
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
from eventlog.faust.access import sender_task_of
from eventlog.producing.record_accumulator import DeliveryReport, Position, Record, RecordAccumulator
from eventlog.runtime.abort import abort
from eventlog.runtime.cancellation import cancel_requested
from eventlog.runtime.counters import Histogram

log = logging.getLogger(__name__)

#: Minimum time between the starts of two producers, and the pause after a failed start.
RESTART_INTERVAL_S = 1.0


class RecordPublisher(Protocol):
    """Appends records. Publisher implements it."""

    async def publish(self, topic: str, record: Record, *, timeout_s: float | None = None) -> Position:
        """Appends one record and returns its position. Raises BrokerUnavailable after `timeout_s` seconds.

        None means the publisher's default.
        """
        ...


class Publisher:
    """The publisher of a process, with one producer at a time."""

    def __init__(self, kafka: Kafka, *, client_id: str, timeout_s: float = 10.0) -> None:
        self.partitions = 0
        #: Number of producers that were replaced.
        self.replaced = 0
        self._kafka = kafka
        self._client_id = client_id
        self._timeout_s = timeout_s
        #: By topic.
        self._accumulators: dict[str, RecordAccumulator] = {}
        #: None before the start, and while the producer is being replaced.
        self._producer: Any = None
        self._started_at = 0.0
        self._replacing: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def ready(self) -> bool:
        """Whether there is a producer that accepts records."""
        return self._producer is not None

    @property
    def publish_s(self) -> dict[str, Histogram]:
        """Seconds from handing a batch to the producer to its acknowledgement, by topic. Read it on any thread."""
        return {topic: accumulator.publish_s for topic, accumulator in self._accumulators.copy().items()}

    async def start(self, partitions: int) -> None:
        """Connects. Every topic has `partitions` partitions. Raises KafkaConnectionError if no broker responds."""
        self._producer = await self._new_producer()
        self.partitions = partitions

    async def stop(self) -> None:
        """Sends all waiting records and disconnects."""
        self._stopping = True
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.wait([self._replacing])
        for accumulator in self._accumulators.values():
            await accumulator.drain()
        if self._retiring:
            await asyncio.wait(self._retiring)
        if self._producer is not None:
            await self._producer.stop()

    async def _new_producer(self) -> Any:
        """A started producer. Raises KafkaError and TimeoutError."""
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
        # The sender may end without failing the batches that it was to send.
        sender_task_of(producer).add_done_callback(partial(self._sender_ended, producer))
        return producer

    def _sender_ended(self, producer: Any, task: asyncio.Task[None]) -> None:
        # A requested cancellation comes from the stop, or from the end of the event loop.
        if not task.cancelling():
            self._producer_failed(producer, None)

    async def _current_producer(self) -> Any:
        """The producer, or the next one while it is being replaced. Raises ProducerClosed after the stop."""
        while self._producer is None:
            if self._stopping or self._replacing is None:
                raise ProducerClosed
            await asyncio.wait([self._replacing])
        return self._producer

    def _producer_failed(self, producer: Any, error: BaseException | None) -> None:
        """Replaces a producer that can no longer write to every partition. Ignores one that was replaced before."""
        if producer is not self._producer or self._stopping:
            return
        log.warning("replacing the producer: %s", "its sender ended" if error is None else f"a batch failed, {error!r}")
        self.replaced += 1
        self._producer = None
        loop = asyncio.get_running_loop()
        self._replacing = loop.create_task(self._replace(), name="new producer")
        self._replacing.add_done_callback(self._replacement_ended)
        retiring = loop.create_task(self._retire(producer), name="old producer")
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _replace(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(self._started_at + RESTART_INTERVAL_S - loop.time(), 0))
            try:
                self._producer = await self._new_producer()
            except (KafkaError, OSError, TimeoutError, asyncio.CancelledError) as error:
                if cancel_requested():
                    raise
                log.warning("can't start a new producer, retrying: %r", error)
            else:
                return

    def _replacement_ended(self, task: asyncio.Task[None]) -> None:
        # Without a producer all calls would wait for ever.
        if not task.cancelled() and (error := task.exception()) is not None:
            abort("the producer could not be replaced", error)

    async def _retire(self, producer: Any) -> None:
        """Stops a replaced producer after it has sent its batches of other partitions, which then fail if it can't."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await producer.stop()
        except Exception as error:  # noqa: BLE001 - its remaining batches fail below
            log.warning("the replaced producer did not stop in time: %r", error)
            sender_task_of(producer).cancel()
            await producer.client.close()
        finally:
            for accumulator in self._accumulators.values():
                accumulator.fail_in_flight(producer)

    async def publish(self, topic: str, record: Record, *, timeout_s: float | None = None) -> Position:
        """Appends one record and returns its position.

        Raises BrokerUnavailable if it was not acknowledged in time; it may still be written, and the caller may retry.
        Raises ValueError if the record is larger than the broker accepts.
        """
        (result,) = await self.publish_all(topic, (record,), timeout_s=timeout_s)
        if isinstance(result, BrokerUnavailable):
            raise result
        return result

    async def publish_all(
        self, topic: str, records: Sequence[Record], *, timeout_s: float | None = None
    ) -> list[Position | BrokerUnavailable]:
        """Appends records, those of one partition in the given order. Returns a position or an error for each.

        BrokerUnavailable means that the record was not acknowledged in time; it may still be written, and the caller
        may retry. Raises ValueError if a record is larger than the broker accepts.
        """
        if not self.partitions:
            return [BrokerUnavailable("not connected to the broker yet")] * len(records)
        if not records:
            return []
        accumulator = self._accumulators.get(topic)
        if accumulator is None:
            accumulator = self._accumulators[topic] = RecordAccumulator(
                self._current_producer, self._producer_failed, topic
            )
        report = DeliveryReport(len(records))
        for index, record in enumerate(records):
            accumulator.add(partition_of(record.key, self.partitions), record, report, index)
        within_s = self._timeout_s if timeout_s is None else timeout_s
        timer = asyncio.get_running_loop().call_later(within_s, report.give_up)
        try:
            await report.done
        finally:
            timer.cancel()
        late = BrokerUnavailable(f"no acknowledgement for {topic} in time")
        return [late if result is None else result for result in report.results]
