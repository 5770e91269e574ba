"""Gathers records of many callers for one topic and hands them over together: whole batches, all partitions at once.

A client library's own linger runs for each partition by itself: with a dozen partitions a request to the broker then
carries two records, and to make and to answer it costs more than the calls they come from. Here all that has gathered
goes in one. A partition has one batch under way at a time; what comes meanwhile waits and goes in its next, so that a
slow partition holds up none but its own records, and those of one partition keep their order. Must only be used on the
event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from eventlog.errors import BrokerUnavailable

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


class Sending:
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


_Waiting = tuple[Record, Sending, int]


class _Lane:
    """What waits for one partition, since when, and whether a batch of it is under way."""

    __slots__ = ("busy", "since", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.busy = False
        #: When the first of what waits came, on the loop's clock. Earlier where a full batch has left it behind: it is
        #: due as soon as that one is through.
        self.since = 0.0


class Gathering:
    """Records on their way to one topic."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._lanes: dict[int, _Lane] = {}
        #: Partitions whose records may be handed over.
        self._ready: dict[int, _Lane] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._handing_over: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Future[Any]] = set()
        #: Since when records gather that are handed over next, on the loop's clock; records handed over last.
        self._since = 0.0
        self._last = 0
        self._per_s = 0.0

    def add(self, partition: int, record: Record, sending: Sending, index: int) -> None:
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

    async def _hand_over(self) -> None:
        """Hands over a batch of each partition that is ready. They are taken without a pause, so they go together."""
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
        batch = self._producer.create_batch()
        held = self._fill(batch, lane)
        self._last += len(held)
        if not held:
            self._landed(partition, lane)
            return
        batch.close()
        try:
            future = await self._producer.send_batch(batch, self._topic, partition=partition)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self._fail(held, error)
            self._landed(partition, lane)
            return
        self._under_way.add(future)

        def acknowledged(ended: asyncio.Future[Any]) -> None:
            self._under_way.discard(ended)
            error = KafkaError("cancelled") if ended.cancelled() else ended.exception()
            if error is not None:
                self._fail(held, error)
            else:
                first = ended.result()
                for place, (_, sending, index) in enumerate(held):
                    sending.tell(index, Position(partition, first.offset + place, first.timestamp))
            self._landed(partition, lane)

        future.add_done_callback(acknowledged)

    def _fill(self, batch: Any, lane: _Lane) -> list[_Waiting]:
        """Moves what there is room for into a batch."""
        held: list[_Waiting] = []
        waiting = lane.waiting
        while waiting:
            one = waiting[0]
            record, sending, _ = one
            # Nobody waits for an answer any more: its caller was told that it was not acknowledged.
            if not sending.done.done():
                key = record.key.encode()
                if batch.append(timestamp=None, key=key, value=record.value, headers=record.headers) is None:
                    # It takes nothing more now, however small.
                    if not held:
                        waiting.popleft()
                        sending.fail(self._too_large(record))
                    break
                held.append(one)
            waiting.popleft()
        return held

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
