"""The decider: reads an inbox, decides its records, and appends the decisions to the event log.

Its state is the fold of the event log, which is also the changelog of its Faust table. One inbox record yields at most
one decision record, on the same partition number, and nothing but the inbox is decided on. Background tasks fire timers
(timer_loop.py), write checkpoints, and compare the log with the decisions made here (log_watch.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from aiokafka.errors import KafkaError
from faust.types import TP

from eventlog.consuming.start_policy import StartPolicy, from_state, log_unhandled_record
from eventlog.core.aggregate import Aggregate, Domain
from eventlog.core.errors import NotReady, Poisoned, Spoiled
from eventlog.core.partition_state import TIMERS_IN_MEMORY, PartitionState
from eventlog.core.partitioner import partition_of
from eventlog.processors.base import Batch, Connection, Processor
from eventlog.processors.guards.log_watch import LogWatch, fold_rest
from eventlog.processors.meter import DecideCounts, DeciderGauges, copied
from eventlog.processors.observed_decisions import DecisionObserver, ObservedDecisions
from eventlog.processors.standby.standby import standby_for, written_at
from eventlog.processors.timer_loop import TimerLoop
from eventlog.producing.batch_output import Output
from eventlog.records.codec import Codec
from eventlog.records.envelope import HeaderTemplate
from eventlog.records.log_position import LogIdentity
from eventlog.records.topic_spec import TopicSpec
from eventlog.records.traceparent import passed_on
from eventlog.runtime import failpoints
from eventlog.runtime.time_slice import TimeSlice
from eventlog.state.checkpoint import AGE_S, Checkpointer
from eventlog.state.decider_follower import DeciderFollower
from eventlog.state.rocksdb_store import RocksDBStore
from eventlog.state.verified_open import open_verified
from eventlog.views.change_notifier import ChangeNotifier

log = logging.getLogger(__name__)

S = TypeVar("S")

#: Decoded aggregates in memory, of all partitions, in addition to those that wait for a checkpoint.
CACHED_AGGREGATES = 24_000
#: Timers in memory, of all partitions, approximately.
TIMERS_IN_MEMORY_TOTAL = 32_768


class Decider(Processor, Generic[S]):
    """Decides the inputs of one domain, and serves reads of its aggregates."""

    start_policy: StartPolicy = staticmethod(from_state)
    #: Whether timers and checkpoints are watched.
    _loops_run = False
    _observed = ObservedDecisions()

    def __init__(
        self,
        group: str,
        inbox: TopicSpec,
        log: TopicSpec,
        domain: Domain[S],
        connection: Connection,
        codec: Codec[S] | None = None,
        *,
        checkpoint_s: float = AGE_S,
        observer: DecisionObserver | None = None,
    ) -> None:
        self.domain = domain
        self._inbox = inbox
        self._log = log
        source = f"/{log.writer}"
        self._stamp = HeaderTemplate(log.type_name, source)
        self._timers: TimerLoop[S] = TimerLoop(domain, inbox, source, self._owned, self._decides, lambda: self.producer)
        self.notifier = ChangeNotifier()
        self._observed = ObservedDecisions(observer)
        self.decide_counts = DecideCounts()
        super().__init__(group, (inbox.name,), connection)
        changelog = self.app.topic(log.name, key_serializer="raw", value_serializer="raw")
        self._table = self.app.Table(
            log.name,
            changelog_topic=changelog,
            # Faust takes a URL without a host for none, and then uses its default store.
            store="eventlog://fold",
            # With 1, Faust would continue to read the logs of active partitions after the recovery.
            recovery_buffer_size=4,
        )
        self._codec = codec
        self.standby = standby_for(self, (log.name,))
        self._table.open_states = self.open_states
        self._table.adopt = self._adopt
        self._table.on_ready = self._on_ready
        self._table.on_poisoned = self.quarantine
        #: Futures of the batches that are decided and not yet acknowledged, by partition.
        self._in_flight: dict[int, set[asyncio.Future[Any]]] = {}
        self._checkpointer = Checkpointer(
            connection.kafka,
            log.name,
            lambda: self._store.owned(self.epoch),
            lambda p: self._in_flight.get(p, ()),
            age_s=checkpoint_s,
        )
        self._log_watch = LogWatch(
            connection.kafka,
            log.name,
            inbox.name,
            lambda: self._store.owned(self.epoch),
            self._ends,
            self._stop_at,
        )

    # State on disk ----------------------------------------------------------------------------------------------

    async def open_states(self, partitions: Collection[int]) -> AsyncIterator[tuple[int, PartitionState[S]]]:
        """Opens states on disk, verified against the log; empty states in memory if the decider has no codec."""
        if self._codec is None:
            for partition in partitions:
                yield partition, self._make_state(partition, None)
            return
        paths = {one: self.connection.state_dir / self.group / str(one) for one in partitions}
        topics = (self._inbox.name, self._log.name)
        make = lambda one, identity: self._open(paths[one], identity)  # noqa: E731
        async for partition, states in open_verified(self.connection.kafka, topics, paths, make):
            yield partition, self._make_state(partition, states)

    async def follow(self, partition: int) -> DeciderFollower[S]:
        """Opens a partition for the standby, verified against the log."""
        found: list[PartitionState[S]] = []
        try:
            async for _, state in self.open_states([partition]):
                found.append(state)
        except BaseException:
            for state in found:
                state.close()
            raise
        return DeciderFollower(found[0], self._log.name)

    async def _adopt(self, partition: int) -> PartitionState[S] | None:
        assert self.standby is not None
        follower = await self.standby.adopt(partition)
        return follower.state if isinstance(follower, DeciderFollower) else None

    def holds(self, partition: int) -> bool:
        """Whether the decider itself has a partition open."""
        return bool(self._store.holds(partition))

    def written_at(self, partition: int) -> float:
        """Time of a partition's newest state on disk, in seconds since the epoch; 0 if there is none."""
        return written_at(self.connection.state_dir / self.group / str(partition))

    def _open(self, path: Path, identity: LogIdentity) -> RocksDBStore[S]:
        """Opens the store of one partition. Runs on a thread."""
        assert self._codec is not None
        return RocksDBStore(path, self._codec, self._cached, log_topic=self._log.name, identity=identity)

    @property
    def _cached(self) -> int:
        return max(CACHED_AGGREGATES // max(self.partitions, 1), 256)

    def _make_state(self, partition: int, states: RocksDBStore[S] | None) -> PartitionState[S]:
        held = max(TIMERS_IN_MEMORY_TOTAL // max(self.partitions, 1), TIMERS_IN_MEMORY // 8)
        return PartitionState(
            self.domain,
            partition,
            states,
            inbox=self._inbox.name,
            log=self._log.name,
            is_skipped=self.is_skipped,
            timers_in_memory=held,
            partitions=self.partitions,
        )

    # Reads ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether every partition assigned here is recovered or quarantined."""
        if not self.partitions:
            return False
        assigned = {tp.partition for tp in self.app.consumer.assignment() if tp.topic == self._inbox.name}
        return assigned - self.quarantined.keys() == {one.partition for one in self._owned()} - self.quarantined.keys()

    def get(self, key: str) -> Aggregate[S] | None:
        """The aggregate of a key, or None if it has no event. Raises NotReady if its partition can't be read here."""
        partition = partition_of(key, self.partitions) if self.partitions else -1
        state = self._store.ready(partition, self.read_epoch) if self.partitions else None
        if state is None:
            raise NotReady(f"{self.group}: partition {partition} is not ready here")
        found: Aggregate[S] | None = state.get(key)
        return found

    @property
    def _store(self) -> Any:
        return self._table.data

    def decider_gauges(self) -> DeciderGauges:
        """The present values of the checkpoints and timers. May be called on any thread."""
        # Before that neither loop runs, and only the main thread may make the store.
        owned = copied(lambda: self._store.owned(self.epoch)) if self._loops_run else []
        return DeciderGauges(
            checkpoint_age_s=max((self._checkpointer.age_s(state.partition) for state in owned), default=0.0),
            unsaved=sum(state.states.unsaved for state in owned),
            timers_late_s=self._timers.late_s({state.partition for state in owned} - self.quarantined.keys()),
        )

    def _owned(self) -> list[PartitionState[S]]:
        return list(self._store.owned(self.read_epoch))

    def _all_owned(self, partitions: Collection[int] | None) -> list[PartitionState[S]]:
        """The states of `partitions`, or of all. Raises NotReady unless this process has all of them."""
        owned = self._owned()
        expected = self.partitions
        if partitions is not None:
            owned = [state for state in owned if state.partition in partitions]
            expected = len(partitions)
        if not self.partitions or len(owned) != expected:
            raise NotReady(f"{self.group}: only some partitions are ready here")
        return owned

    def _on_ready(self) -> None:
        for state in self._store.owned(self.epoch):
            if state.last_folded_ms > 0:
                self._timers.on_read(state.last_folded_ms)
        self._timers.wake()
        self.notifier.notify_all()

    def ownership_changed(self) -> None:
        """Wakes all waiters: their partitions may have moved."""
        self.notifier.notify_all()

    # Deciding ---------------------------------------------------------------------------------------------------

    async def start(self, partitions: int) -> None:
        """See Processor. Returns when the state is recovered."""
        self._table.partitions = partitions
        await super().start(partitions)
        self._loops_run = True
        self.spawn(self._timers.run(), "timers")
        self.spawn(self._checkpointer.run(), "checkpoints")
        self.spawn(self._log_watch.run(), "log watch")

    def release_state_dir(self) -> None:
        """See Processor. Closes the states first."""
        self._store.reset_state()
        super().release_state_dir()

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Decides a batch, and sends the decisions."""
        state = self._store.ready(batch.partition, batch.epoch)
        if state is None:
            if self._store.recovered_epoch == batch.epoch:
                # The recovery of this epoch is complete, so the state will not come.
                self.report_missing_state(batch)
            return None
        records = state.undecided(batch.records)
        counts = self.decide_counts
        counts.repeats += len(batch.records) - len(records)
        if not records:
            return None
        output = Output(self.producer, self._log.name, batch.partition, partial(self._decided, state))
        written: list[asyncio.Future[Any]] = []
        acknowledged = self._register_in_flight(batch.partition)
        slices = TimeSlice()
        measured = counts.begin(state, slices)
        self._observed.begin_batch()
        claimed = self.app.consumer.committed_at_start(TP(batch.topic, batch.partition)) or 0
        for record in records:
            try:
                self._decide(state, record, output)
                if record.offset < claimed and state.greatest_cause == record.offset:
                    log_unhandled_record(TP(batch.topic, batch.partition), claimed, record.offset, "yields a decision")
                    claimed = 0
            except Poisoned as poisoned:
                # The decisions before it are sent below.
                self.quarantine(poisoned)
                break
            if slices.expired():
                # Full producer batches only: sending the few decisions of each slice costs as much as deciding them.
                if output.full:
                    sending = time.perf_counter()
                    written += await self._send(output, full=True)
                    measured.waited_s += time.perf_counter() - sending
                await slices.yield_to_loop()
                if self._store.ready(batch.partition, batch.epoch) is not state:
                    measured.end()
                    # We lost the partition mid-batch. Send the decisions anyway: if we get it back, the in-memory state
                    # must not be ahead of the log. Another owner writes identical bytes, and duplicates are ignored.
                    complete_when_acked(acknowledged, written + await self._send(output))
                    return None
        measured.end()
        written += await self._send(output)
        complete_when_acked(acknowledged, written)
        self._timers.on_read(records[-1].timestamp)
        self._timers.decided(state)
        return written

    def _register_in_flight(self, partition: int) -> asyncio.Future[None]:
        """Registers a batch before its first decision. The future is completed when the broker has the last one.

        A checkpoint waits for it. The producer may take the output seconds later, behind earlier output, and a
        checkpoint written meanwhile must not hold a decision that the log does not hold.
        """
        pending = self._in_flight.setdefault(partition, set())
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pending.add(acknowledged)
        acknowledged.add_done_callback(pending.discard)
        return acknowledged

    async def _send(self, output: Output, *, full: bool = False) -> list[asyncio.Future[Any]]:
        if failpoints.armed:
            failpoints.passed("batch decided, nothing sent")
        sent = await output.send(full=full)
        if failpoints.armed:
            failpoints.passed("output sent, not acknowledged")
        return sent

    def _decided(self, state: PartitionState[S], first: int, count: int, timestamp_ms: int, mark: object) -> None:
        if failpoints.armed:
            failpoints.passed("output acknowledged, state not updated")
        assert isinstance(mark, bytes)
        self._observed.acknowledged(state, first, count)
        state.on_acknowledged(first, count, mark)
        self._timers.on_acknowledged(timestamp_ms)

    def _decide(self, state: PartitionState[S], record: Any, output: Output) -> None:
        decision = state.decide(record)
        state.next_input = record.offset + 1
        if decision is None:
            return
        aggregate = state.last_decided
        assert aggregate is not None
        key = aggregate.key
        ce_id = f"{key}:{aggregate.version}"
        made = self._stamp.headers(ce_id, aggregate.time_ms)
        traceparent = passed_on(record.headers, self._stamp.source, ce_id)
        if traceparent is not None:
            made.append(traceparent)
        output.append(record.key, decision, made, aggregate.digest)
        if self._observed.room > 0:
            self._observed.keep(state, key, decision, None if traceparent is None else traceparent[1])
        if failpoints.armed:
            failpoints.passed("record decided, batch not")
        self.notifier.notify(key)

    # Quarantine -------------------------------------------------------------------------------------------------

    def _stop_at(self, state: PartitionState[S], poisoned: Poisoned) -> None:
        """Stops a partition in whose log a foreign record was found."""
        state.poisoned = poisoned
        self.quarantine(poisoned, self.epoch)
        self.notifier.notify_all()

    def _decides(self, state: PartitionState[S]) -> bool:
        partition = state.partition
        return partition not in self.quarantined and self._store.ready(partition, self.read_epoch) is state

    def skipped(self, poisoned: Poisoned) -> None:
        """See Processor. Moves the next input past the record."""
        state = self._store.ready(poisoned.partition, self.epoch)
        if state is not None and poisoned.topic == self._inbox.name:
            state.skip(poisoned.offset)
        self._timers.wake()

    async def resume(self, poisoned: Poisoned) -> Poisoned | None:
        """See Processor. Replaces an unusable state by the one on disk, and folds the log to its end."""
        partition, epoch = poisoned.partition, self.epoch
        stopped = self._store.stopped(partition)
        if stopped is None:
            return None
        if pending := list(self._in_flight.get(partition, ())):
            await asyncio.wait(pending)
        stopped.close()
        fresh: PartitionState[S] | None = None
        try:
            async for _, opened in self.open_states([partition]):
                fresh = opened
            assert fresh is not None
            if isinstance(poisoned, Spoiled) and poisoned.topic == self._log.name:
                stopped.skipped_offsets.add(poisoned.offset)
            fresh.skipped_offsets |= stopped.skipped_offsets
            tp = TP(self._log.name, partition)
            end = (await self._ends([tp]))[tp]
            next_one = await fold_rest(self.connection.kafka, fresh, end, lambda: epoch == self.epoch)
            if epoch != self.epoch or next_one is not None:
                fresh.close()
                return next_one
        except (KafkaError, OSError) as error:
            log.warning("%s: partition %s can't resume yet, retrying: %r", self.group, partition, error)
            if fresh is not None:
                fresh.close()
            return poisoned
        start = self.app.consumer.start_of(TP(self._inbox.name, partition)) or 0
        fresh.next_input = max(stopped.next_input, start, fresh.greatest_cause + 1)
        self._store.exchange(partition, fresh)
        self._on_ready()
        return None

    async def _ends(self, tps: list[TP]) -> dict[TP, int]:
        found: dict[TP, int] = await self.app.consumer.ends(tps)
        return found


def complete_when_acked(batch: asyncio.Future[None], outputs: Sequence[asyncio.Future[Any]]) -> None:
    """Completes the future of a batch once all of its outputs are acknowledged."""
    left = len(outputs)

    def acknowledged(_: asyncio.Future[Any]) -> None:
        nonlocal left
        left -= 1
        if not left:
            batch.set_result(None)

    for output in outputs:
        output.add_done_callback(acknowledged)
    if not outputs:
        batch.set_result(None)
