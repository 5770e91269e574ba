"""The state of one partition: its aggregates, folded from the decision log, and the position of that fold.

Pure: no clock, and no I/O except in the store of the aggregates. One processor uses a state at a time; a new owner of
the partition builds its own from the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Generic, NoReturn, Protocol, TypeVar

from eventlog.core.aggregate import Aggregate, Domain, apply, decide
from eventlog.core.errors import InvariantViolation, Poisoned, Spoiled
from eventlog.core.partitioner import partition_of
from eventlog.core.skips import IsSkipped, nothing_is_skipped
from eventlog.core.state_store import FOR_EVER_MS, CheckpointPosition, InMemoryStore, StateStore
from eventlog.core.timers import BrokerClock, Timers

S = TypeVar("S")


class Record(Protocol):
    """The fields of a record that the kernel reads. aiokafka's ConsumerRecord has them."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


R = TypeVar("R", bound=Record)

#: Timers of one partition in memory. More are loaded below half of it, and half are evicted above twice of it.
TIMERS_IN_MEMORY = 4_096
#: Changed aggregates after which a fold of the log writes a checkpoint, which bounds the memory of a recovery.
MAX_UNSAVED = 10_000


class PartitionState(Generic[S]):
    """The aggregates of a partition, by key."""

    def __init__(
        self,
        domain: Domain[S],
        partition: int,
        states: StateStore[S] | None = None,
        *,
        inbox: str = "",
        log: str = "",
        is_skipped: IsSkipped = nothing_is_skipped,
        timers_in_memory: int = TIMERS_IN_MEMORY,
        partitions: int = 0,
    ) -> None:
        """`inbox` and `log` are topics, for error messages. With `partitions`, keys of other partitions are refused."""
        self.domain = domain
        self._partitions = partitions
        #: The error that left the state half changed, or None. A spoiled state may be neither read nor saved.
        self.poisoned: Poisoned | None = None
        #: Offsets of decisions that are known to be skipped, and are not tried again.
        self.skipped_offsets: set[int] = set()
        self.partition = partition
        self._inbox = inbox
        self.log = log
        self._is_skipped = is_skipped
        self._timers_in_memory = timers_in_memory
        self.states: StateStore[S] = states if states is not None else InMemoryStore()
        position = self.states.checkpoint_position
        #: Offset of the decision log up to which everything is folded in and acknowledged; -1 if nothing is.
        self.applied = position.applied
        #: SHA-256 of the record at `applied`; empty if unknown.
        self.digest = position.digest
        #: The broker's timestamp of the last folded record, a lower bound of the present time.
        self.last_folded_ms = 0
        #: Greatest inbox offset that a decision names as its cause.
        self.greatest_cause = position.greatest_cause
        #: The next inbox offset to decide; -1 until the partition is recovered.
        self.next_input = -1
        #: Greatest offset of our output beyond a gap that another writer's records fill; -1 if there was none.
        self.written_ahead = -1
        #: Decisions that the broker has not acknowledged yet.
        self.pending = 0
        #: Decisions made here, and those of them on which the rules raised an exception.
        self.decisions = 0
        self.faults = 0
        self.timers = Timers(-1 if self.states.indexes_timers else FOR_EVER_MS)
        #: The aggregate of the last decision made here.
        self.last_decided: Aggregate[S] | None = None

    def __len__(self) -> int:
        return len(self.states)

    def get(self, key: str) -> Aggregate[S] | None:
        """The aggregate of a key, or None."""
        return self.states.get(key)

    # Folding the log ------------------------------------------------------------------------------------------------

    def apply(self, record: Record) -> None:
        """Folds one record of the decision log. Ignores an offset that was folded before.

        Raises InvariantViolation if offsets are missing. Raises Poisoned as `aggregate.apply` does, unless a skip of
        the record is recorded; a skipped record changes only the position.
        """
        if record.offset <= self.applied:
            return
        if record.offset != self.applied + 1 and self.applied >= 0:
            raise InvariantViolation(f"the decision log jumps from {self.applied} to {record.offset}")
        try:
            if record.offset in self.skipped_offsets:
                self.digest = sha256(record.value or b"").digest()
            else:
                self._fold(record)
        except Poisoned as error:
            if isinstance(error, Spoiled) or not self.is_skipped(record):
                self._stop_at(error.at(self.log, self.partition), error)
            self.digest = sha256(record.value or b"").digest()
        self.applied = record.offset
        self.last_folded_ms = record.timestamp
        if self.states.unsaved >= MAX_UNSAVED:
            self.states.save_folded(self.checkpoint_position)

    def is_skipped(self, record: Record) -> bool:
        """Whether an operator has recorded a skip of a decision that can't be folded."""
        return self._is_skipped(self.log, self.partition, record)

    def _stop_at(self, poisoned: Poisoned, cause: BaseException) -> NoReturn:
        if isinstance(poisoned, Spoiled):
            self.poisoned = poisoned
            self.states.mark_spoiled()
        raise poisoned from cause

    def _aggregate(self, record: Record) -> Aggregate[S]:
        """The aggregate of a record's key. Raises Poisoned if the key is missing, invalid or of another partition."""
        if record.key is None or record.value is None:
            raise Poisoned.for_record("", -1, record.offset, record.value, "it has no key or no value")
        try:
            key = record.key.decode()
        except UnicodeDecodeError as error:
            raise Poisoned.for_record("", -1, record.offset, record.value, f"its key is {error!r}") from error
        found = self.states.get(key)
        if found is not None:
            return found
        if self.is_foreign(key):
            raise Poisoned.for_record("", -1, record.offset, record.value, "its key belongs to another partition")
        return Aggregate(key, self.domain.initial(key))

    def is_foreign(self, key: str) -> bool:
        """Whether a key belongs to another partition."""
        return bool(self._partitions) and partition_of(key, self._partitions) != self.partition

    def _fold(self, record: Record) -> None:
        aggregate = self._aggregate(record)
        assert record.value is not None
        if apply(self.domain, aggregate, record.value, record.offset):
            self._changed(aggregate)
            self.digest = aggregate.digest
        else:
            self.digest = sha256(record.value).digest()

    @property
    def checkpoint_position(self) -> CheckpointPosition:
        """The position up to which the state is folded and acknowledged."""
        return CheckpointPosition(self.applied, self.greatest_cause, self.digest)

    # Deciding the inbox ---------------------------------------------------------------------------------------------

    @property
    def fully_acknowledged(self) -> bool:
        """Whether all decisions made here are in the log, without a gap whose records have not been compared."""
        return self.pending == 0 and self.written_ahead <= self.applied

    def undecided(self, records: Sequence[R]) -> Sequence[R]:
        """The records of a fetched batch from the next input on. Raises InvariantViolation if inputs are missing."""
        first = records[0].offset
        if first > self.next_input:
            raise InvariantViolation(f"input jumps from {self.next_input} to {first} on {self.partition}")
        return records if first == self.next_input else [one for one in records if one.offset >= self.next_input]

    def decide(self, record: Record) -> bytes | None:
        """Decides one record of the inbox. Returns the decision's bytes, or None if there is no event.

        Raises Poisoned as `aggregate.decide` does, and Spoiled if an event can't be applied.
        """
        try:
            aggregate = self._aggregate(record)
            value = record.value
            assert value is not None
            decision = decide(self.domain, aggregate, value, record.offset, record.timestamp, self._on_fault)
        except Poisoned as error:
            self._stop_at(error.at(self._inbox, self.partition), error)
        except Exception as error:  # noqa: BLE001 - any exception of `evolve` or of the encoding: half changed
            reason = f"a decided event can't be applied: {error!r}"
            self._stop_at(Spoiled.for_record(self._inbox, self.partition, record.offset, record.value, reason), error)
        if decision is not None:
            self._changed(aggregate)
            self.last_decided = aggregate
            self.pending += 1
            self.decisions += 1
        return decision

    def _on_fault(self) -> None:
        self.faults += 1

    def skip(self, offset: int) -> None:
        """Skips the input at an offset if it is the next one."""
        if self.next_input == offset:
            self.next_input = offset + 1

    def _changed(self, aggregate: Aggregate[S]) -> None:
        cause = aggregate.cause
        self.greatest_cause = cause if cause > self.greatest_cause else self.greatest_cause
        due_ms = self.domain.due(aggregate.state)
        self.states.changed(aggregate, due_ms)
        self.timers.schedule(aggregate.key, due_ms)

    def on_acknowledged(self, first: int, count: int, digest: bytes = b"") -> None:
        """Records that `count` decisions made here are in the log from offset `first` on; `digest` is the last one's.

        `applied` advances only if they follow it without a gap. The gap holds another writer's records, which this
        state has not compared with its own yet.
        """
        self.pending -= count
        if first == self.applied + 1:
            self.applied += count
            self.digest = digest
        elif first > self.applied:
            self.written_ahead = max(self.written_ahead, first + count - 1)

    # Timers ---------------------------------------------------------------------------------------------------------

    def load_timers(self) -> Iterator[None]:
        """Loads the timers due next from the store if few are in memory. Evicts the last ones if there are too many.

        Yields so that the caller can do other work; decisions may be made meanwhile.
        """
        timers = self.timers
        if len(timers) > 2 * self._timers_in_memory and self.states.indexes_timers:
            timers.evict_later_half()
        if timers.loaded_until_ms >= FOR_EVER_MS or len(timers) >= self._timers_in_memory // 2:
            return
        found = self.states.due_after(timers.loaded_until_ms, self._timers_in_memory)
        # The generator does not see changes from here on, so `_changed` must keep all of them in memory.
        timers.loaded_until_ms = FOR_EVER_MS
        while True:
            try:
                timer = next(found)
            except StopIteration as end:
                timers.loaded_until_ms = end.value
                return
            if timer is not None:
                timers.load(timer[1], timer[0])
            yield

    def next_fire_in_ms(self, clock: BrokerClock, monotonic_ms: int) -> int | None:
        """Milliseconds until the next timer may fire, or None if there is no timer."""
        now_ms = clock.now(monotonic_ms)
        if now_ms is not None:
            self.timers.set_now(now_ms)
        due_ms = self.timers.next_fire_ms()
        if due_ms is None:
            return None
        return 0 if now_ms is None or not clock.was_acknowledged else max(due_ms - now_ms, 0)

    def timers_to_fire(self, clock: BrokerClock, monotonic_ms: int, limit: int) -> list[tuple[str, int]]:
        """At most `limit` keys to append a tick for now, each with its due time.

        If the clock is stale, the first timer fires whether it is due or not. The acknowledgement of that tick gives
        the broker's time, and a tick that comes too early has no effect.
        """
        now_ms = clock.now(monotonic_ms)
        if now_ms is not None:
            self.timers.set_now(now_ms)
        due_ms = self.timers.next_fire_ms()
        if due_ms is None:
            return []
        if clock.is_stale(due_ms, monotonic_ms):
            return self._first_timer()
        assert now_ms is not None
        return self.pop_due(now_ms, limit)

    def _first_timer(self) -> list[tuple[str, int]]:
        """The timer that fires next. It stays scheduled, because this tick may be too early for it."""
        while (first := self.timers.first()) is not None:
            really = self._due(first[0])
            if really == first[1]:
                return [first]
            self.timers.schedule(first[0], really)
        return []

    def pop_due(self, now_ms: int, limit: int) -> list[tuple[str, int]]:
        """At most `limit` keys whose timer fires now, each with its due time."""
        found = []
        for key, due_ms in self.timers.pop_due(now_ms, limit):
            # A timer from the store's index may be out of date; the aggregate is not.
            really = self._due(key)
            if really == due_ms:
                found.append((key, due_ms))
            else:
                self.timers.schedule(key, really)
        return found

    def _due(self, key: str) -> int | None:
        aggregate = self.states.get(key)
        return None if aggregate is None else self.domain.due(aggregate.state)

    def close(self) -> None:
        """Closes the store."""
        self.states.close()
