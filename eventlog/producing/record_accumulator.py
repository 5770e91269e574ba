"""An accumulator that batches the records of many callers for one topic, for all partitions together.

A client library's linger runs for each partition on its own. With a dozen partitions, a produce request then carries
two records and costs more than the calls that they come from. This accumulator sends the batches of all partitions at
once. A partition has one batch in flight. Its later records wait for the next batch, so they keep their order, and a
slow partition delays only its own records. Not thread-safe: use it on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from eventlog.core.errors import BrokerUnavailable
from eventlog.runtime.abort import abort
from eventlog.runtime.cancellation import cancel_requested
from eventlog.runtime.counters import PUBLISH_S, Histogram

#: How long a record waits for others, in seconds; the default of the Java client since 4.0. Above MANY_PER_S records a
#: second they wait longer: larger batches then save callers more time in the queue than the linger costs them.
LINGER_S = 0.005
LINGER_OF_MANY_S = 0.015
MANY_PER_S = 1_300
#: Weight of the last batch in the moving average of the rate, so that a single burst does not count as a high rate.
RATE_WEIGHT = 0.2


class Position(NamedTuple):
    """The position of a record, and the broker's timestamp in milliseconds since the epoch."""

    partition: int
    offset: int
    timestamp_ms: int


class Record(NamedTuple):
    """A record to append."""

    key: str
    value: bytes
    headers: list[tuple[str, bytes]]


class DeliveryReport:
    """The results of one caller's records.

    `done` completes when every record has a result, or when the caller gives up. It fails if a record can't be written.
    """

    __slots__ = ("_left", "done", "results")

    def __init__(self, count: int) -> None:
        self._left = count
        #: By the record's index. None: no result yet.
        self.results: list[Position | BrokerUnavailable | None] = [None] * count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def resolve(self, index: int, result: Position | BrokerUnavailable) -> None:
        """Sets the result of one record."""
        self.results[index] = result
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def give_up(self) -> None:
        """Stops waiting. Records that no producer has yet are not written."""
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Fails the whole report, because of a defect or a record that can't be written."""
        if not self.done.done():
            self.done.set_exception(error)


_Waiting = tuple[Record, DeliveryReport, int]


class _PartitionQueue:
    """The records that wait for one partition."""

    __slots__ = ("in_flight", "since", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        #: Whether a batch of the partition is in flight.
        self.in_flight = False
        #: When the first waiting record was added, on the loop's clock. If a full batch left records behind, the time
        #: of that batch's first record: those are due at once.
        self.since = 0.0


class RecordAccumulator:
    """Records on their way to one topic.

    `current_producer` returns the producer. It waits for one while there is none, and raises KafkaError if there will
    be none. `on_producer_failed` is called with a producer that failed a batch which it had accepted, and the error.
    """

    def __init__(
        self,
        current_producer: Callable[[], Awaitable[Any]],
        on_producer_failed: Callable[[Any, BaseException | None], None],
        topic: str,
    ) -> None:
        self._current_producer = current_producer
        self._on_producer_failed = on_producer_failed
        self._topic = topic
        #: Seconds from handing a batch to the producer to its acknowledgement.
        self.publish_s = Histogram(PUBLISH_S)
        self._queues: dict[int, _PartitionQueue] = {}
        #: Partitions with waiting records and no batch in flight.
        self._ready: dict[int, _PartitionQueue] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        #: Batches in flight, each with its producer.
        self._in_flight: dict[asyncio.Future[Any], Any] = {}
        #: When the records of the next batches began to gather, on the loop's clock.
        self._since = 0.0
        #: Records of the last batches.
        self._last_count = 0
        #: Moving average of records a second.
        self._per_s = 0.0

    def add(self, partition: int, record: Record, report: DeliveryReport, index: int) -> None:
        """Adds a record. Its result becomes number `index` of the report."""
        queue = self._queues.get(partition)
        if queue is None:
            queue = self._queues[partition] = _PartitionQueue()
        waiting = queue.waiting
        # While the broker is unavailable, callers give up; drop their records so that they don't accumulate.
        while waiting and waiting[0][1].done.done():
            waiting.popleft()
        if not waiting:
            queue.since = asyncio.get_running_loop().time()
        waiting.append((record, report, index))
        if not queue.in_flight:
            self._make_ready(partition, queue)

    async def drain(self) -> None:
        """Sends all waiting records without further delay, and returns when no batch is in flight."""
        while self._sending is not None or self._ready or self._in_flight:
            if self._timer is not None:
                self._timer.cancel()
                self._begin_sending()
            pending = [*self._in_flight] if self._sending is None else [self._sending]
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            # Let the callbacks run: a partition may become ready again.
            await asyncio.sleep(0)

    def fail_in_flight(self, producer: Any) -> None:
        """Fails the batches that a producer accepted and will not write any more."""
        for future, accepted_by in [*self._in_flight.items()]:
            if accepted_by is producer:
                future.cancel()

    def _make_ready(self, partition: int, queue: _PartitionQueue) -> None:
        self._ready[partition] = queue
        if self._timer is None and self._sending is None:
            self._linger()

    def _linger(self) -> None:
        """Schedules the next batches: LINGER_S after the oldest ready record, or LINGER_OF_MANY_S from now."""
        loop = asyncio.get_running_loop()
        if self._per_s > MANY_PER_S:
            self._since, seconds = loop.time(), LINGER_OF_MANY_S
        else:
            self._since, seconds = min(queue.since for queue in self._ready.values()), LINGER_S
        self._timer = loop.call_at(self._since + seconds, self._begin_sending)

    def _begin_sending(self) -> None:
        self._timer = None
        self._sending = asyncio.create_task(self._send_ready(), name=f"records for {self._topic}")
        self._sending.add_done_callback(self._sending_ended)

    def _sending_ended(self, task: asyncio.Task[None]) -> None:
        # After an error the partition would count as in flight for ever. The task is cancelled only at the end of the
        # event loop: `_send` treats a CancelledError from inside a call as a failure.
        if not task.cancelled() and (error := task.exception()) is not None:
            abort("records could not be handed to the producer", error, topic=self._topic)

    async def _send_ready(self) -> None:
        """Hands a batch of each ready partition to the producer, without a pause, so that they share requests."""
        with suppress(KafkaError):
            # Records go on gathering until there is a producer.
            await self._current_producer()
        ready, self._ready = self._ready, {}
        gathered_s = asyncio.get_running_loop().time() - self._since
        self._last_count = 0
        try:
            for partition, queue in ready.items():
                queue.in_flight = True
                await self._send(partition, queue)
        finally:
            self._sending = None
            self._per_s += RATE_WEIGHT * (self._last_count / max(gathered_s, LINGER_S) - self._per_s)
            if self._ready:
                self._linger()

    async def _send(self, partition: int, queue: _PartitionQueue) -> None:
        try:
            producer = await self._current_producer()
        except KafkaError as error:
            held = [*queue.waiting]
            queue.waiting.clear()
            self._fail(held, error)
            self._complete(partition, queue)
            return
        batch, held = self._fill(producer, queue)
        self._last_count += len(held)
        if not held:
            self._complete(partition, queue)
            return
        batch.close()
        began_s = asyncio.get_running_loop().time()
        try:
            future = await producer.send_batch(batch, self._topic, partition=partition)
        except asyncio.CancelledError:
            if cancel_requested():
                raise
            self._on_producer_failed(producer, None)
            self._fail(held, KafkaError("cancelled"))
            self._complete(partition, queue)
            return
        except Exception as error:  # noqa: BLE001 - the callers get every error
            if isinstance(error, KafkaError) and not isinstance(error, KafkaTimeoutError):
                # A time-out means that the producer's buffer is full. Any other error ends the producer.
                self._on_producer_failed(producer, error)
            self._fail(held, error)
            self._complete(partition, queue)
            return
        self._in_flight[future] = producer
        future.add_done_callback(partial(self._batch_done, partition, queue, held, producer, began_s))

    def _batch_done(
        self,
        partition: int,
        queue: _PartitionQueue,
        held: list[_Waiting],
        producer: Any,
        began_s: float,
        future: asyncio.Future[Any],
    ) -> None:
        self.publish_s.observe(asyncio.get_running_loop().time() - began_s)
        del self._in_flight[future]
        error: BaseException | None = KafkaError("cancelled") if future.cancelled() else future.exception()
        if error is None and future.result().offset < 0:
            # The batch is a duplicate that is too old for the broker to know its offset.
            error = KafkaError("written, but at an unknown offset")
        if error is not None:
            # The failed batch has used up sequence numbers that the broker still expects.
            self._on_producer_failed(producer, error)
            self._fail(held, error)
        else:
            first = future.result()
            for place, (_, report, index) in enumerate(held):
                report.resolve(index, Position(partition, first.offset + place, first.timestamp))
        self._complete(partition, queue)

    def _fill(self, producer: Any, queue: _PartitionQueue) -> tuple[Any, list[_Waiting]]:
        """Moves waiting records into a new batch until it is full."""
        batch = producer.create_batch()
        held: list[_Waiting] = []
        waiting = queue.waiting
        while waiting:
            one = waiting[0]
            record, report, _ = one
            # Skip the record of a caller that has given up: it was reported as not acknowledged.
            if not report.done.done():
                try:
                    accepted = batch.append(
                        timestamp=None, key=record.key.encode(), value=record.value, headers=record.headers
                    )
                except Exception as error:  # noqa: BLE001 - an invalid record must not stop other callers
                    waiting.popleft()
                    report.fail(error)
                    # The batch may hold a part of that record: start again with a new one.
                    waiting.extendleft(reversed(held))
                    batch, held = producer.create_batch(), []
                    continue
                if accepted is None:
                    # The batch is full and accepts no further record, however small.
                    if not held:
                        waiting.popleft()
                        report.fail(self._too_large(record))
                    break
                held.append(one)
            waiting.popleft()
        return batch, held

    def _complete(self, partition: int, queue: _PartitionQueue) -> None:
        """Ends a batch of a partition, and makes the partition ready if more records wait."""
        queue.in_flight = False
        if queue.waiting:
            self._make_ready(partition, queue)

    def _fail(self, held: list[_Waiting], error: BaseException) -> None:
        for record, report, index in held:
            if isinstance(error, MessageSizeTooLargeError):
                report.fail(self._too_large(record))
            elif isinstance(error, KafkaError):
                report.resolve(index, BrokerUnavailable(f"{self._topic}: {error!r}"))
            else:
                report.fail(error)

    def _too_large(self, record: Record) -> ValueError:
        return ValueError(f"a record of {len(record.value)} bytes is larger than {self._topic} takes")
