"""Gathers records of many callers for one topic and hands them over together: whole batches, all partitions at once.

A client library's own linger runs for each partition by itself: with a dozen partitions a request to the broker then
carries two records, and to make and to answer it costs more than the calls they come from. Here all that has gathered
goes in one. A partition has one batch under way at a time; what comes meanwhile waits and goes in its next, so that a
slow partition holds up none but its own records, and those of one partition keep their order. It is used on the event
loop's thread alone.
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
from eventlog.processors.lanes import cancelled_by_us
from eventlog.runtime.abort import abort

#: Seconds that a record waits for others, as in the Java client since 4.0: what it takes, all save at the broker and
#: after it. Where more come in a second than `MANY_PER_S`, they wait longer: there is more to save, and whoever waits
#: for an answer then waits longer for their turn than for this.
LINGER_S = 0.005
LINGER_OF_MANY_S = 0.015
MANY_PER_S = 1_300
#: Weight of the last records in how many come: a handful that happen to come together are not many.
WEIGHT = 0.2


class Position(NamedTuple):
    """Where a record stands, and the broker's time of it in milliseconds since the epoch."""

    partition: int
    offset: int
    timestamp_ms: int


class Record(NamedTuple):
    """One record to append."""

    key: str
    value: bytes
    headers: list[tuple[str, bytes]]


class DeliveryReport:
    """Records of one caller. `done` ends once of each is known where it stands, or why not, or when its caller waits no
    longer."""

    __slots__ = ("_left", "done", "found")

    def __init__(self, count: int) -> None:
        self._left = count
        self.found: list[Position | BrokerUnavailable | None] = [None] * count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(self, index: int, outcome: Position | BrokerUnavailable) -> None:
        """What became of one of them."""
        self.found[index] = outcome
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def give_up(self) -> None:
        """Waits no longer. What is not handed over by now will not be written."""
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        """None of them will be known: a defect, or a record that can never be written."""
        if not self.done.done():
            self.done.set_exception(error)


_Waiting = tuple[Record, DeliveryReport, int]


class _Lane:
    """What waits for one partition, since when, and whether a batch of it is under way."""

    __slots__ = ("busy", "since", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.busy = False
        #: When the first of what waits came, on the loop's clock. Earlier where a full batch has left it behind: it is
        #: due as soon as that one is through.
        self.since = 0.0


class RecordAccumulator:
    """Records on their way to one topic.

    `current` returns the producer, waiting for one where there is none, and raises KafkaError where there will be none.
    `spent` is called with a producer that failed a batch after it had taken it, and why.
    """

    def __init__(
        self, current: Callable[[], Awaitable[Any]], spent: Callable[[Any, BaseException | None], None], topic: str
    ) -> None:
        self._current = current
        self._spent = spent
        self._topic = topic
        self._lanes: dict[int, _Lane] = {}
        #: Partitions whose records may be handed over.
        self._ready: dict[int, _Lane] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._handing_over: asyncio.Task[None] | None = None
        #: Batches that a producer has taken, each with that producer.
        self._under_way: dict[asyncio.Future[Any], Any] = {}
        #: Since when records gather that are handed over next, on the loop's clock; records handed over last.
        self._since = 0.0
        self._last = 0
        self._per_s = 0.0

    def add(self, partition: int, record: Record, sending: DeliveryReport, index: int) -> None:
        """Takes a record, which is the caller's number `index`."""
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = _Lane()
        waiting = lane.waiting
        # While the broker is away callers come and go: what the first of them left here must not pile up.
        while waiting and waiting[0][1].done.done():
            waiting.popleft()
        if not waiting:
            lane.since = asyncio.get_running_loop().time()
        waiting.append((record, sending, index))
        if not lane.busy:
            self._make_ready(partition, lane)

    async def drain(self) -> None:
        """Returns once nothing waits nor is under way any more. Waits for no others to come."""
        while self._handing_over is not None or self._ready or self._under_way:
            if self._timer is not None:
                self._timer.cancel()
                self._begin()
            pending = [*self._under_way] if self._handing_over is None else [self._handing_over]
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            # Lets what ends with these be seen: a partition may be ready again.
            await asyncio.sleep(0)

    def give_up(self, producer: Any) -> None:
        """Fails what a producer has taken and will not write any more."""
        for future, taken_by in [*self._under_way.items()]:
            if taken_by is producer:
                future.cancel()

    def _make_ready(self, partition: int, lane: _Lane) -> None:
        self._ready[partition] = lane
        if self._timer is None and self._handing_over is None:
            self._linger()

    def _linger(self) -> None:
        """Hands over what is ready once the first of it has waited long enough; of many, once they gathered anew."""
        loop = asyncio.get_running_loop()
        if self._per_s > MANY_PER_S:
            self._since, seconds = loop.time(), LINGER_OF_MANY_S
        else:
            self._since, seconds = min(lane.since for lane in self._ready.values()), LINGER_S
        self._timer = loop.call_at(self._since + seconds, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._handing_over = asyncio.create_task(self._hand_over(), name=f"records for {self._topic}")
        self._handing_over.add_done_callback(self._handed_over)

    def _handed_over(self, task: asyncio.Task[None]) -> None:
        # A partition that was being handed over would stay busy, and its callers would wait in vain. Only the event
        # loop's end cancels the task: `_send` takes a CancelledError from inside for a failure.
        if not task.cancelled() and (error := task.exception()) is not None:
            abort("records could not be handed over", error, topic=self._topic)

    async def _hand_over(self) -> None:
        """Hands over a batch of each partition that is ready. They are taken without a pause, so they go together."""
        with suppress(KafkaError):
            # While there is none, the records of all partitions go on gathering.
            await self._current()
        ready, self._ready = self._ready, {}
        gathered_s = asyncio.get_running_loop().time() - self._since
        self._last = 0
        try:
            for partition, lane in ready.items():
                lane.busy = True
                await self._send(partition, lane)
        finally:
            self._handing_over = None
            self._per_s += WEIGHT * (self._last / max(gathered_s, LINGER_S) - self._per_s)
            if self._ready:
                self._linger()

    async def _send(self, partition: int, lane: _Lane) -> None:
        try:
            producer = await self._current()
        except KafkaError as error:
            held = [*lane.waiting]
            lane.waiting.clear()
            self._fail(held, error)
            self._landed(partition, lane)
            return
        batch, held = self._fill(producer, lane)
        self._last += len(held)
        if not held:
            self._landed(partition, lane)
            return
        batch.close()
        try:
            future = await producer.send_batch(batch, self._topic, partition=partition)
        except asyncio.CancelledError:
            if cancelled_by_us():
                raise
            self._spent(producer, None)
            self._fail(held, KafkaError("cancelled"))
            self._landed(partition, lane)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            if isinstance(error, KafkaError) and not isinstance(error, KafkaTimeoutError):
                # Not for want of room: it takes nothing any more.
                self._spent(producer, error)
            self._fail(held, error)
            self._landed(partition, lane)
            return
        self._under_way[future] = producer
        future.add_done_callback(partial(self._ended, partition, lane, held, producer))

    def _ended(
        self, partition: int, lane: _Lane, held: list[_Waiting], producer: Any, future: asyncio.Future[Any]
    ) -> None:
        del self._under_way[future]
        error: BaseException | None = KafkaError("cancelled") if future.cancelled() else future.exception()
        if error is None and future.result().offset < 0:
            # A repeat of a batch so old that the broker has forgotten where it stands.
            error = KafkaError("written, but at an unknown offset")
        if error is not None:
            # Whatever failed it: its sequence numbers are used up, and the broker waits for them.
            self._spent(producer, error)
            self._fail(held, error)
        else:
            first = future.result()
            for place, (_, sending, index) in enumerate(held):
                sending.tell(index, Position(partition, first.offset + place, first.timestamp))
        self._landed(partition, lane)

    def _fill(self, producer: Any, lane: _Lane) -> tuple[Any, list[_Waiting]]:
        """Moves what there is room for into a batch."""
        batch = producer.create_batch()
        held: list[_Waiting] = []
        waiting = lane.waiting
        while waiting:
            one = waiting[0]
            record, sending, _ = one
            # Nobody waits for an answer any more: its caller was told that it was not acknowledged.
            if not sending.done.done():
                try:
                    taken = batch.append(
                        timestamp=None, key=record.key.encode(), value=record.value, headers=record.headers
                    )
                except Exception as error:  # noqa: BLE001 - a defect of one caller's must not stop the others
                    waiting.popleft()
                    sending.fail(error)
                    # The batch may hold a part of that record.
                    waiting.extendleft(reversed(held))
                    batch, held = producer.create_batch(), []
                    continue
                if taken is None:
                    # It takes nothing more now, however small.
                    if not held:
                        waiting.popleft()
                        sending.fail(self._too_large(record))
                    break
                held.append(one)
            waiting.popleft()
        return batch, held

    def _landed(self, partition: int, lane: _Lane) -> None:
        lane.busy = False
        if lane.waiting:
            self._make_ready(partition, lane)

    def _fail(self, held: list[_Waiting], error: BaseException) -> None:
        for record, sending, index in held:
            if isinstance(error, MessageSizeTooLargeError):
                sending.fail(self._too_large(record))
            elif isinstance(error, KafkaError):
                sending.tell(index, BrokerUnavailable(f"{self._topic}: {error!r}"))
            else:
                sending.fail(error)

    def _too_large(self, record: Record) -> ValueError:
        return ValueError(f"a record of {len(record.value)} bytes is larger than {self._topic} takes")
