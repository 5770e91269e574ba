"""Effects: reads decisions, makes the calls to the outside that they ask for, and appends what came of them.

At least once: an offset moves only when the outcomes of all calls before it are in the log, so a call may be made again
after a crash and must carry a key of its own. Calls of one lane are made in order; lanes don't wait for each other. A
call must end: what can't be settled now is an outcome too. A decision that can't be read quarantines its partition.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from faust.types import TP

from eventlog.consuming.decision_chain import Chain, Chains
from eventlog.consuming.resume import effects_start
from eventlog.consuming.start_policy import StartPolicy
from eventlog.core.aggregate import DecisionMessage
from eventlog.core.errors import InvariantViolation, Poisoned
from eventlog.core.partitioner import partition_of
from eventlog.processors.base import Batch, Connection, Processor
from eventlog.processors.time_slice import TimeSlice
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime.abort import abort
from eventlog.runtime.cancellation import cancel_requested

C = TypeVar("C")

#: Calls under way at once.
CONCURRENCY = 512
#: Calls of one partition that are begun and whose outcomes are not written yet. A partition whose outcomes the broker
#: does not take so holds up its own calls alone.
CONCURRENCY_EACH = 256
#: Records of a batch. A crash repeats the calls of whole batches, so they are small: a process that dies every few
#: seconds must still get on.
BATCH_RECORDS = 500
#: A call that takes longer breaks its contract, and would hold up all that comes after it without anybody knowing.
MAX_S = 120.0


class Effect(NamedTuple, Generic[C]):
    """One call: those of a lane are made one after the other."""

    lane: str
    call: C


class EffectResult(NamedTuple):
    """What came of a call: an inbox record's value and headers."""

    value: bytes
    headers: Sequence[tuple[str, bytes]]


class EffectHandler(Protocol[C]):
    """What a domain fills in."""

    def effects_of(self, record: Any) -> Iterable[Effect[C]]:
        """The calls that a decision record asks for."""
        ...

    async def perform(self, key: str, call: C) -> EffectResult:
        """Makes a call. Must end within seconds and must not raise: what went wrong is an outcome.

        So is what can't be settled now: the decider parks it and asks again. Anything else ends the process, a
        CancelledError from inside the call too: grpc.aio raises one where its channel closes.
        """
        ...


class Effects(Processor, Generic[C]):
    """Makes the calls of `log` and appends their outcomes to `inbox`."""

    def __init__(
        self, group: str, log: TopicSpec, inbox: TopicSpec, calling: EffectHandler[C], connection: Connection
    ) -> None:
        self._inbox = inbox
        self._calling = calling
        self._chains = Chains(connection.kafka)
        super().__init__(group, (log.name,), connection)
        self._free = asyncio.Semaphore(CONCURRENCY)
        self._free_each: defaultdict[int, asyncio.Semaphore] = defaultdict(_semaphore)
        #: Last call of each lane that has one under way.
        self._lanes: dict[str, asyncio.Task[None]] = {}

    def _make_app(self) -> Any:
        app = super()._make_app()
        app.conf.broker_max_poll_records = BATCH_RECORDS
        return app

    @property
    def start_policy(self) -> StartPolicy:  # type: ignore[override]
        """The committed offset, but never beyond a call that was not made."""
        return effects_start(self.connection.kafka, self._calling, self._inbox.name)

    @property
    def ready(self) -> bool:
        """It has no state to be read: whether decisions flow in this epoch."""
        return self.resumed

    @property
    def under_way(self) -> int:
        """Lanes with a call under way."""
        return len(self._lanes)

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Starts the calls of a partition batch; they end in any order, and are acknowledged in the log's."""
        begun: list[Awaitable[Any]] = []
        slices = TimeSlice()
        free = self._free_each[batch.partition]
        decode: Callable[[bytes], DecisionMessage] | None = getattr(self._calling, "decode", None)
        tp = TP(batch.topic, batch.partition)
        chain: Chain | None = None
        if decode is not None:
            chain = await self._chains.begin(batch.epoch, tp, batch.records[0].offset, decode)
            if batch.epoch != self.epoch:
                return None
        for record in batch.records:
            try:
                key = record.key.decode()
                _check_partition(key, batch.partition, self.partitions)
                if chain is not None and decode is not None and not chain.follows(record, decode(record.value)):
                    # Its calls were begun when it was read first.
                    continue
                calls = list(self._calling.effects_of(record))
                if chain is not None:
                    chain.take(record)
            except Exception as error:  # noqa: BLE001 - a pure function of the record: no other try would give more
                if self.is_skipped(batch.topic, batch.partition, record):
                    continue
                place = batch.topic, batch.partition, record.offset
                self.quarantine(Poisoned.for_record(*place, record.value, repr(error)))
                return begun
            for call in calls:
                await free.acquire()
                if batch.epoch != self.epoch:
                    # The new owner makes the rest; what was begun ends by itself.
                    free.release()
                    return None
                begun.append(self._begin(record.key, batch.partition, call))
            if slices.expired():
                await slices.yield_to_loop()
        return begun

    def _begin(self, key: bytes, partition: int, call: Effect[C]) -> asyncio.Task[None]:
        before = self._lanes.get(call.lane)
        task = asyncio.get_running_loop().create_task(self._make(key, partition, call, before))
        self._lanes[call.lane] = task
        task.add_done_callback(lambda done: self._ended(call.lane, partition, done))
        return task

    def _ended(self, lane: str, partition: int, task: asyncio.Task[None]) -> None:
        self._free_each[partition].release()
        if self._lanes.get(lane) is task:
            del self._lanes[lane]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Here, and not where it is waited for: that may be long after, behind slower calls.
            abort("a call or its outcome failed", error, processor=self.group, lane=lane)

    async def _make(self, key: bytes, partition: int, call: Effect[C], before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            # The time of a call does not run while it waits for a place.
            async with self._free, asyncio.timeout(MAX_S):
                outcome = await self._calling.perform(key.decode(), call.call)
            # One record each: an outcome should reach its decider at once. The producer batches what comes together.
            future = await self.producer.send(
                self._inbox.name, outcome.value, key=key, partition=partition, headers=list(outcome.headers)
            )
            await future
        except asyncio.CancelledError as error:
            if cancel_requested():
                raise
            raise InvariantViolation("the call or its outcome was cancelled from inside") from error


def _check_partition(key: str, partition: int, partitions: int) -> None:
    if partitions and partition_of(key, partitions) != partition:
        raise ValueError(f"its key {key!r} belongs to another partition")


def _semaphore() -> asyncio.Semaphore:
    return asyncio.Semaphore(CONCURRENCY_EACH)
