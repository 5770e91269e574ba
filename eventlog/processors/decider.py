"""The decider: reads an inbox, decides, and appends decisions to the event log that its own state is the fold of.

One inbox record gives at most one decision record, on the partition of its input. It decides from the inbox alone.
Beside it run the timers, which only append ticks to the inbox.
"""

from __future__ import annotations

import asyncio
import logging
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
from eventlog.core.timers import BrokerClock
from eventlog.faust.lease import awake_or_not_s
from eventlog.processors.base import Batch, Connection, Processor
from eventlog.processors.log_watch import LogWatch, folded
from eventlog.processors.standby.standby import standby_for, written_at
from eventlog.processors.time_slice import TimeSlice
from eventlog.producing.batch_output import Output
from eventlog.records.codec import Codec
from eventlog.records.envelope import Stamp, headers
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime import failpoints
from eventlog.state.checkpoint import AGE_S, Checkpointer
from eventlog.state.database import LogIdentity
from eventlog.state.decider_follower import DeciderFollower
from eventlog.state.rocksdb_store import RocksDBStore
from eventlog.state.verified_open import open_verified
from eventlog.views.change_notifier import ChangeNotifier

log = logging.getLogger(__name__)

S = TypeVar("S")

#: Longest wait of the timers between two looks at the clock.
POLL_INTERVAL_S = 0.5
#: Ticks appended to one partition in one go.
TICKS_BATCH = 500
#: Decoded aggregates in memory of all partitions, beside those that wait for a checkpoint.
CACHED_BY_ALL = 24_000
#: Timers in memory of all partitions, about.
TIMERS_HELD_BY_ALL = 32_768


class Decider(Processor, Generic[S]):
    """Runs one domain. It is also the view of its aggregates for reads."""

    start_policy: StartPolicy = staticmethod(from_state)

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
    ) -> None:
        self.domain = domain
        self._inbox = inbox
        self._log = log
        self._stamp = Stamp(log.type_name, f"/{log.writer}")
        self._tick_type = inbox.type_name
        self._source = f"/{log.writer}"
        self._clock = BrokerClock()
        self._wake = asyncio.Event()
        self.watchers = ChangeNotifier()
        super().__init__(group, (inbox.name,), connection)
        changelog = self.app.topic(log.name, key_serializer="raw", value_serializer="raw")
        self._table = self.app.Table(
            log.name,
            changelog_topic=changelog,
            # The URL needs a host: an empty one is false to Faust, which then takes its default store.
            store="eventlog://fold",
            # Not 1: Faust would go on reading the logs of active partitions.
            recovery_buffer_size=4,
        )
        self._codec = codec
        self.standby = standby_for(self, (log.name,))
        self._table.open_states = self.open_states
        self._table.adopt = self._adopt
        self._table.on_ready = self._on_ready
        self._table.on_poisoned = self.quarantine

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

    async def open_states(self, partitions: Collection[int]) -> AsyncIterator[tuple[int, PartitionState[S]]]:
        """States of partitions as they are kept on disk, compared with the log; in memory if they can't be encoded."""
        if self._codec is None:
            for partition in partitions:
                yield partition, self._state(partition, None)
            return
        paths = {one: self.connection.state_dir / self.group / str(one) for one in partitions}
        topics = (self._inbox.name, self._log.name)
        make = lambda one, identity: self._open(paths[one], identity)  # noqa: E731
        async for partition, states in open_verified(self.connection.kafka, topics, paths, make):
            yield partition, self._state(partition, states)

    async def follow(self, partition: int) -> DeciderFollower[S]:
        """Opens a partition for the standby, compared with the log."""
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
        """Whether a partition is open here for the decider itself."""
        return bool(self._store.holds(partition))

    def written_at(self, partition: int) -> float:
        """Time of a partition's newest state on disk, in seconds since the epoch; 0: there is none."""
        return written_at(self.connection.state_dir / self.group / str(partition))

    def _open(self, path: Path, identity: LogIdentity) -> RocksDBStore[S]:
        """Opens the states of one partition; on a thread of its own."""
        assert self._codec is not None
        return RocksDBStore(path, self._codec, self._cached, log_topic=self._log.name, identity=identity)

    @property
    def _cached(self) -> int:
        return max(CACHED_BY_ALL // max(self.partitions, 1), 256)

    def _state(self, partition: int, states: RocksDBStore[S] | None) -> PartitionState[S]:
        held = max(TIMERS_HELD_BY_ALL // max(self.partitions, 1), TIMERS_IN_MEMORY // 8)
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
        """Whether every partition assigned here is recovered, but for those that stand still."""
        if not self.partitions:
            return False
        assigned = {tp.partition for tp in self.app.consumer.assignment() if tp.topic == self._inbox.name}
        return assigned - self.quarantined.keys() == {one.partition for one in self._owned()} - self.quarantined.keys()

    def get(self, key: str) -> Aggregate[S] | None:
        """The aggregate of a key, None if nothing ever happened to it. Raises NotReady when it is not ours to say."""
        partition = partition_of(key, self.partitions) if self.partitions else -1
        state = self._store.ready(partition, self.read_epoch) if self.partitions else None
        if state is None:
            raise NotReady(f"{self.group}: partition {partition} is not ready here")
        found: Aggregate[S] | None = state.get(key)
        return found

    @property
    def _store(self) -> Any:
        return self._table.data

    def _owned(self) -> list[PartitionState[S]]:
        return list(self._store.owned(self.read_epoch))

    def _on_ready(self) -> None:
        for state in self._store.owned(self.epoch):
            if state.last_folded_ms > 0:
                self._clock.on_read(state.last_folded_ms, _monotonic_ms())
        self._wake.set()
        self.watchers.notify_all()

    def ownership_changed(self) -> None:
        """Wakes whoever waits for what may not be ours any more."""
        self.watchers.notify_all()

    # Deciding ---------------------------------------------------------------------------------------------------

    async def start(self, partitions: int) -> None:
        """Starts; returns when the state is recovered."""
        self._table.partitions = partitions
        await super().start(partitions)
        self.spawn(self._run_timers(), "timers")
        self.spawn(self._checkpointer.run(), "checkpoints")
        self.spawn(self._log_watch.run(), "log watch")

    def release_state_dir(self) -> None:
        """See Processor."""
        self._store.reset_state()
        super().release_state_dir()

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Decides a partition batch."""
        state = self._store.ready(batch.partition, batch.epoch)
        if state is None:
            if self._store.recovered_epoch == batch.epoch:
                # The recovery of this epoch is over: it would drop the partition's input until the next rebalance.
                self.report_missing_state(batch)
            return None
        records = state.undecided(batch.records)
        if not records:
            return None
        output = Output(self.producer, self._log.name, batch.partition, partial(self._decided, state))
        written: list[asyncio.Future[Any]] = []
        through = self._register_in_flight(batch.partition)
        slices = TimeSlice()
        claimed = self.app.consumer.committed_at_start(TP(batch.topic, batch.partition)) or 0
        for record in records:
            try:
                self._decide(state, record, output)
                if record.offset < claimed and state.greatest_cause == record.offset:
                    log_unhandled_record(TP(batch.topic, batch.partition), claimed, record.offset, "yields a decision")
                    claimed = 0
            except Poisoned as poisoned:
                # The decisions before it are sent and registered below, as always.
                self.quarantine(poisoned)
                break
            if slices.expired():
                # Whole producer batches: to send the little that each slice decides would cost as much as deciding it.
                if output.full:
                    written += await self._send(output, full=True)
                await slices.yield_to_loop()
                if self._store.ready(batch.partition, batch.epoch) is not state:
                    # The partition is not ours now, but may be again, with this very state: what it holds must come to
                    # stand in the log. Where another owner decides the same, it writes the same.
                    complete_when_acked(through, written + await self._send(output))
                    return None
        written += await self._send(output)
        complete_when_acked(through, written)
        self._clock.on_read(records[-1].timestamp, _monotonic_ms())
        self._wake.set()
        return written

    def skipped(self, poisoned: Poisoned) -> None:
        """See Processor: the record is taken for absent."""
        state = self._store.ready(poisoned.partition, self.epoch)
        if state is not None and poisoned.topic == self._inbox.name:
            state.skip(poisoned.offset)
        self._wake.set()

    def _stop_at(self, state: PartitionState[S], poisoned: Poisoned) -> None:
        """A foreign record stands in the log of a partition in use."""
        state.poisoned = poisoned
        self.quarantine(poisoned, self.epoch)
        self.watchers.notify_all()

    async def _ends(self, tps: list[TP]) -> dict[TP, int]:
        found: dict[TP, int] = await self.app.consumer.ends(tps)
        return found

    async def resume(self, poisoned: Poisoned) -> Poisoned | None:
        """See Processor. A state that may not be used is taken anew from disk, and the log folded to its end."""
        partition, epoch = poisoned.partition, self.epoch
        stopped = self._store.stopped(partition)
        if stopped is None:
            return None
        if pending := list(self._in_flight.get(partition, ())):
            await asyncio.wait(pending)
        stopped.close()
        fresh: PartitionState[S] | None = None
        try:
            async for _, opened_one in self.open_states([partition]):
                fresh = opened_one
            assert fresh is not None
            if isinstance(poisoned, Spoiled) and poisoned.topic == self._log.name:
                stopped.skipped_offsets.add(poisoned.offset)
            fresh.skipped_offsets |= stopped.skipped_offsets
            tp = TP(self._log.name, partition)
            end = (await self._ends([tp]))[tp]
            again = await folded(self.connection.kafka, fresh, end, lambda: epoch == self.epoch)
            if epoch != self.epoch or again is not None:
                fresh.close()
                return again
        except (KafkaError, OSError) as error:
            log.warning("%s: partition %s can't go on yet, trying again: %r", self.group, partition, error)
            if fresh is not None:
                fresh.close()
            return poisoned
        start = self.app.consumer.start_of(TP(self._inbox.name, partition)) or 0
        fresh.next_input = max(stopped.next_input, start, fresh.greatest_cause + 1)
        self._store.exchange(partition, fresh)
        self._on_ready()
        return None

    def _register_in_flight(self, partition: int) -> asyncio.Future[None]:
        """In flight from before the first decision of a batch until the broker has the last.

        The producer may take output only seconds later, when what is before it is through, and a checkpoint that is
        written meanwhile must not hold what the log does not.
        """
        pending = self._in_flight.setdefault(partition, set())
        through: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pending.add(through)
        through.add_done_callback(pending.discard)
        return through

    async def _send(self, output: Output, *, full: bool = False) -> list[asyncio.Future[Any]]:
        if failpoints.armed:
            failpoints.passed("batch decided, nothing sent")
        sent = await output.send(full=full)
        if failpoints.armed:
            failpoints.passed("output sent, not acknowledged")
        return sent

    def _decided(self, state: PartitionState[S], first: int, count: int, timestamp_ms: int, mark: object) -> None:
        if failpoints.armed:
            failpoints.passed("output acknowledged, state not told")
        assert isinstance(mark, bytes)
        state.on_acknowledged(first, count, mark)
        self._ticked(first, count, timestamp_ms, mark)

    def _decide(self, state: PartitionState[S], record: Any, output: Output) -> None:
        decision = state.decide(record)
        state.next_input = record.offset + 1
        if decision is None:
            return
        aggregate = state.last_decided
        assert aggregate is not None
        key = aggregate.key
        made = self._stamp.headers(f"{key}:{aggregate.version}", aggregate.time_ms)
        for one in record.headers:
            if one[0] == "traceparent":
                made.append(one)
        output.append(record.key, decision, made, aggregate.digest)
        if failpoints.armed:
            failpoints.passed("record decided, batch not")
        self.watchers.notify(key)

    # Timers -----------------------------------------------------------------------------------------------------

    def _ticked(self, first: int, count: int, timestamp_ms: int, mark: object) -> None:
        if timestamp_ms > 0:
            self._clock.on_acknowledged(timestamp_ms, _monotonic_ms())

    async def _run_timers(self) -> None:
        while True:
            wait_s = POLL_INTERVAL_S
            for state in self._owned():
                wait_s = min(wait_s, await self._fire_timers(state))
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), max(wait_s, 0.005))
            except TimeoutError:
                continue

    async def _fire_timers(self, state: PartitionState[S]) -> float:
        """Appends ticks for what is due. Returns the seconds until the partition's next timer."""
        slices = TimeSlice()
        for _ in state.load_timers():
            if slices.expired():
                await slices.yield_to_loop()
        if state.partition in self.quarantined or self._store.ready(state.partition, self.read_epoch) is not state:
            # It decides nothing now, or went to another process meanwhile.
            return POLL_INTERVAL_S
        keys = state.timers_to_fire(self._clock, _monotonic_ms(), TICKS_BATCH)
        if keys:
            output = Output(self.producer, self._inbox.name, state.partition, self._ticked)
            for key, due_ms in keys:
                output.append(
                    key.encode(),
                    self.domain.tick(due_ms),
                    headers(f"{key}:tick:{due_ms}", self._tick_type, self._source, due_ms),
                )
            if failpoints.armed:
                failpoints.passed("tick due, not sent")
            sent = await output.send()
            if failpoints.armed:
                failpoints.passed("tick sent, not acknowledged")
            for written in sent:
                await written
        due_in_ms = state.next_fire_in_ms(self._clock, _monotonic_ms())
        # Without a broker's time, even after asking, there is nothing to go by: it asks again, but not at once.
        return POLL_INTERVAL_S if due_in_ms is None or not self._clock.was_acknowledged else due_in_ms / 1000


def complete_when_acked(through: asyncio.Future[None], written: Sequence[asyncio.Future[Any]]) -> None:
    """Ends a future when the last of others has ended."""
    left = len(written)

    def acknowledged(_: asyncio.Future[Any]) -> None:
        nonlocal left
        left -= 1
        if not left:
            through.set_result(None)

    for future in written:
        future.add_done_callback(acknowledged)
    if not written:
        through.set_result(None)


def _monotonic_ms() -> int:
    # Goes on while the machine is suspended: the broker's clock does.
    return int(awake_or_not_s() * 1000)
