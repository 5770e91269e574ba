"""Effects: reads a decision log, makes the external calls that its decisions request, and appends their results.

At least once: an offset is committed only when the results of all calls before it are in the inbox, so a call may be
made again after a crash and must carry an idempotency key. Calls of one lane are made in order; lanes are independent.
Every call ends: one that can't be completed now has that as its result. A decision that can't be read quarantines its
partition.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from faust.types import TP

from eventlog.consuming.decision_chain import Chain, Chains
from eventlog.consuming.resume import effects_start
from eventlog.consuming.start_policy import StartPolicy
from eventlog.core.aggregate import DecisionMessage
from eventlog.core.effect_handler import Effect, EffectHandler, EffectResult
from eventlog.core.errors import InvariantViolation, Poisoned
from eventlog.core.partitioner import partition_of
from eventlog.processors.base import Batch, Connection, Processor
from eventlog.records.envelope import header
from eventlog.records.topic_spec import TopicSpec
from eventlog.records.traceparent import CAUSATION_HEADER, passed_on, result_id
from eventlog.runtime.abort import abort
from eventlog.runtime.cancellation import cancel_requested
from eventlog.runtime.time_slice import TimeSlice

C = TypeVar("C")

#: Concurrent calls.
MAX_CONCURRENT_CALLS = 512
#: Calls of one partition whose results are not acknowledged yet. So a partition whose results the broker does not take
#: delays only its own calls.
MAX_PENDING_PER_PARTITION = 256
#: Records of a batch. A crash repeats the calls of whole batches, so with small ones a process that crashes every few
#: seconds still makes progress.
BATCH_RECORDS = 500
#: Seconds after which a call ends the process: it would delay the offsets of its partition for ever, unnoticed.
MAX_CALL_S = 120.0


class Effects(Processor, Generic[C]):
    """Makes the calls that `log` requests and appends their results to `inbox`."""

    def __init__(
        self, group: str, log: TopicSpec, inbox: TopicSpec, handler: EffectHandler[C], connection: Connection
    ) -> None:
        self._inbox = inbox
        self._handler = handler
        self._chains = Chains(connection.kafka)
        super().__init__(group, (log.name,), connection)
        self._concurrent = asyncio.Semaphore(MAX_CONCURRENT_CALLS)
        self._pending: defaultdict[int, asyncio.Semaphore] = defaultdict(_semaphore)
        #: The last call in flight of each lane.
        self._lanes: dict[str, asyncio.Task[None]] = {}

    def _make_app(self) -> Any:
        app = super()._make_app()
        app.conf.broker_max_poll_records = BATCH_RECORDS
        return app

    @property
    def start_policy(self) -> StartPolicy:  # type: ignore[override]
        """The committed offset, or the oldest decision with a call that was not made if that is before it."""
        return effects_start(self.connection.kafka, self._handler, self._inbox.name)

    @property
    def ready(self) -> bool:
        """Whether decisions are read in this epoch; there is no state to recover."""
        return self.resumed

    @property
    def lanes_in_flight(self) -> int:
        """Lanes with a call in flight."""
        return len(self._lanes)

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Starts the calls of a batch. They end in any order; the batches are acknowledged in the order of the log."""
        begun: list[Awaitable[Any]] = []
        slices = TimeSlice()
        pending = self._pending[batch.partition]
        decode: Callable[[bytes], DecisionMessage] | None = getattr(self._handler, "decode", None)
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
                    # A duplicate: its calls were started by the first copy.
                    continue
                effects = list(self._handler.effects_of(record))
                if chain is not None:
                    chain.remember(record)
            except Exception as error:  # noqa: BLE001 - deterministic: a retry would fail the same way
                if self.is_skipped(batch.topic, batch.partition, record):
                    continue
                place = batch.topic, batch.partition, record.offset
                self.quarantine(Poisoned.for_record(*place, record.value, repr(error)))
                return begun
            for effect in effects:
                await pending.acquire()
                if batch.epoch != self.epoch:
                    # The new owner makes the other calls. The calls in flight end by themselves.
                    pending.release()
                    return None
                begun.append(self._start_call(record, batch.partition, effect))
            if slices.expired():
                await slices.yield_to_loop()
        return begun

    def _start_call(self, decision: Any, partition: int, effect: Effect[C]) -> asyncio.Task[None]:
        before = self._lanes.get(effect.lane)
        task = asyncio.get_running_loop().create_task(self._call(decision, partition, effect, before))
        self._lanes[effect.lane] = task
        task.add_done_callback(lambda done: self._ended(effect.lane, partition, done))
        return task

    def _ended(self, lane: str, partition: int, task: asyncio.Task[None]) -> None:
        self._pending[partition].release()
        if self._lanes.get(lane) is task:
            del self._lanes[lane]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Here and not where the task is awaited: that may be long after, behind slower calls.
            abort("a call or its result failed", error, processor=self.group, lane=lane)

    async def _call(self, decision: Any, partition: int, effect: Effect[C], before: asyncio.Task[None] | None) -> None:
        key: bytes = decision.key
        if before is not None:
            await asyncio.wait([before])
        try:
            # The timeout starts when the call does, not while it waits for its turn.
            async with self._concurrent, asyncio.timeout(MAX_CALL_S):
                result = await self._handler.perform(key.decode(), effect.call)
            # Sent on its own, so that it reaches the decider at once. The producer batches concurrent results.
            future = await self.producer.send(
                self._inbox.name, result.value, key=key, partition=partition, headers=_caused(result, decision)
            )
            await future
        except asyncio.CancelledError as error:
            if cancel_requested():
                raise
            raise InvariantViolation("the call or its result was cancelled from inside") from error


def _caused(result: EffectResult, decision: Any) -> list[tuple[str, bytes]]:
    """The headers of a result, with the decision that requested it and the decision's trace."""
    made = list(result.headers)
    cause = header(decision.headers, "ce_id") or ""
    own_id = result_id(header(made, "ce_id") or "", cause)
    if cause:
        made.append((CAUSATION_HEADER, cause.encode()))
    traceparent = passed_on(decision.headers, header(made, "ce_source") or "", own_id)
    if traceparent is not None:
        made.append(traceparent)
    return made


def _check_partition(key: str, partition: int, partitions: int) -> None:
    if partitions and partition_of(key, partitions) != partition:
        raise ValueError(f"its key {key!r} belongs to another partition")


def _semaphore() -> asyncio.Semaphore:
    return asyncio.Semaphore(MAX_PENDING_PER_PARTITION)
