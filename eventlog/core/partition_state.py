"""State of one partition: all its aggregates, as the fold of its decision log, and how far that fold has come.

Pure: no clock, and no I/O of its own (the keeper of the aggregates may have some). Must only be used by one processor
at a time; a new owner makes its own from the log.
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
from eventlog.state.rocksdb_store import FOLDED, RocksDBStore

S = TypeVar("S")


class Record(Protocol):
    """What the kernel reads of a record; aiokafka's ConsumerRecord is one."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


R = TypeVar("R", bound=Record)

#: Timers of one partition in memory. Fewer than half: more are loaded. Twice as many: half of them are let go.
TIMERS_HELD = 4_096


class PartitionState(Generic[S]):
    """Aggregates of a partition by key."""

    def __init__(
        self,
        domain: Domain[S],
        partition: int,
        states: StateStore[S] | None = None,
        *,
        inbox: str = "",
        log: str = "",
        is_skipped: IsSkipped = nothing_is_skipped,
        timers_held: int = TIMERS_HELD,
        partitions: int = 0,
    ) -> None:
        """With `partitions`, a key that belongs to another partition of so many is refused."""
        self.domain = domain
        self._partitions = partitions
        #: Why nothing of this state may be used; None: it may.
        self.poisoned: Poisoned | None = None
        #: Offsets of decisions that are passed over without a try: their skips are recorded.
        self.left_out: set[int] = set()
        self.partition = partition
        self._inbox = inbox
        self.log = log
        self._is_skipped = is_skipped
        self._timers_held = timers_held
        self.states: StateStore[S] = states if states is not None else InMemoryStore()
        origin = self.states.origin
        #: Offset in the decision log up to which everything is folded in and acknowledged; -1: nothing.
        self.applied = origin.applied
        #: SHA-256 of the record there; empty: not known.
        self.digest = origin.digest
        #: The broker's time of the record folded last: no later than now.
        self.folded_ms = 0
        #: Greatest inbox offset that a decision names as its cause.
        self.greatest_cause = origin.greatest_cause
        #: Inbox offset that comes next; -1 until the partition is recovered.
        self.next_input = -1
        #: Own output at an offset beyond `applied + 1`: somebody else has written in between.
        self.written_ahead = -1
        #: Decisions made here that are not acknowledged yet.
        self.pending = 0
        self.timers = Timers(FOR_EVER_MS if isinstance(self.states, InMemoryStore) else -1)
        #: What the last decision made here was about.
        self.decided: Aggregate[S] | None = None

    def __len__(self) -> int:
        return len(self.states)

    def get(self, key: str) -> Aggregate[S] | None:
        """The aggregate of a key, or None."""
        return self.states.get(key)

    def apply(self, record: Record) -> None:
        """Folds one record of the decision log. Raises Impossible at a hole in the log, and Poisoned as
        `aggregate.apply`.

        A record that can't be folded changes nothing where its skip is recorded.
        """
        if record.offset <= self.applied:
            return
        if record.offset != self.applied + 1 and self.applied >= 0:
            raise InvariantViolation(f"the decision log jumps from {self.applied} to {record.offset}")
        try:
            if record.offset in self.left_out:
                self.digest = sha256(record.value or b"").digest()
            else:
                self._fold(record)
        except Poisoned as found:
            if isinstance(found, Spoiled) or not self.is_skipped(record):
                self._stop_at(found.at(self.log, self.partition), found)
            self.digest = sha256(record.value or b"").digest()
        self.applied = record.offset
        self.folded_ms = record.timestamp
        if isinstance(self.states, RocksDBStore) and self.states.unsaved >= FOLDED:
            self.states.keep_folded(self.origin)

    def is_skipped(self, record: Record) -> bool:
        """Whether the skip of a decision that can't be folded is recorded."""
        return self._is_skipped(self.log, self.partition, record)

    def _stop_at(self, poisoned: Poisoned, found: BaseException) -> NoReturn:
        if isinstance(poisoned, Spoiled):
            self.poisoned = poisoned
            if isinstance(self.states, RocksDBStore):
                self.states.spoil()
        raise poisoned from found

    def _aggregate(self, record: Record) -> Aggregate[S]:
        """The aggregate of a record's key. Raises Poisoned where there can be none here."""
        if record.key is None or record.value is None:
            raise Poisoned.by("", -1, record.offset, record.value, "it has no key or no value")
        try:
            key = record.key.decode()
        except UnicodeDecodeError as error:
            raise Poisoned.by("", -1, record.offset, record.value, f"its key is {error!r}") from error
        found = self.states.get(key)
        if found is not None:
            return found
        if self.is_foreign(key):
            raise Poisoned.by("", -1, record.offset, record.value, "its key belongs to another partition")
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
    def origin(self) -> CheckpointPosition:
        """How far it is folded and acknowledged, as a checkpoint says it."""
        return CheckpointPosition(self.applied, self.greatest_cause, self.digest)

    @property
    def settled(self) -> bool:
        """Whether the log holds all that was decided here, and this all that the log holds up to there."""
        return self.pending == 0 and self.written_ahead <= self.applied

    def following(self, records: Sequence[R]) -> Sequence[R]:
        """What of a fetched batch comes next; nothing if all of it was decided before. Raises Impossible at a hole."""
        first = records[0].offset
        if first > self.next_input:
            raise InvariantViolation(f"input jumps from {self.next_input} to {first} on {self.partition}")
        return records if first == self.next_input else [one for one in records if one.offset >= self.next_input]

    def decide(self, record: Record) -> bytes | None:
        """Decides one record of the inbox. Returns the decision's bytes, or None. Raises as `aggregate.decide`."""
        try:
            aggregate = self._aggregate(record)
            value = record.value
            assert value is not None
            decision = decide(self.domain, aggregate, value, record.offset, record.timestamp)
        except Poisoned as found:
            self._stop_at(found.at(self._inbox, self.partition), found)
        except Exception as error:  # noqa: BLE001 - an event of ours that can't be applied: the aggregate is half changed
            reason = f"what follows from it can't be applied: {error!r}"
            self._stop_at(Spoiled.by(self._inbox, self.partition, record.offset, record.value, reason), error)
        if decision is not None:
            self._changed(aggregate)
            self.decided = aggregate
            self.pending += 1
        return decision

    def skip(self, offset: int) -> None:
        """Takes an input for absent: the record after it comes next."""
        if self.next_input == offset:
            self.next_input = offset + 1

    def _changed(self, aggregate: Aggregate[S]) -> None:
        cause = aggregate.cause
        self.greatest_cause = cause if cause > self.greatest_cause else self.greatest_cause
        due_ms = self.domain.due(aggregate.state)
        self.states.changed(aggregate, due_ms)
        self.timers.set(aggregate.key, due_ms)

    def acknowledged(self, first: int, count: int, digest: bytes = b"") -> None:
        """Own output of `count` decisions stands in the log from offset `first` on; the digest is the last one's.

        It moves `applied` only where it continues it: what somebody else wrote in between is not folded in here.
        """
        self.pending -= count
        if first == self.applied + 1:
            self.applied += count
            self.digest = digest
        elif first > self.applied:
            self.written_ahead = max(self.written_ahead, first + count - 1)

    # Timers -------------------------------------------------------------------------------------------------------

    def load_timers(self) -> Iterator[None]:
        """Fills the timers up with those that are kept on disk and fall due next; does something only where few are
        left. Yields in between; deciding may go on meanwhile. Drops timers where there are too many."""
        timers = self.timers
        if len(timers) > 2 * self._timers_held and not isinstance(self.states, InMemoryStore):
            timers.shed()
        if timers.loaded_until_ms >= FOR_EVER_MS or len(timers) >= self._timers_held // 2:
            return
        found = self.states.due_after(timers.loaded_until_ms, self._timers_held)
        # Changes from here on are not in what is read.
        timers.loaded_until_ms = FOR_EVER_MS
        while True:
            try:
                timer = next(found)
            except StopIteration as end:
                timers.loaded_until_ms = end.value
                return
            if timer is not None:
                timers.add(timer[1], timer[0])
            yield

    def due_in(self, clock: BrokerClock, monotonic_ms: int) -> int | None:
        """In how many milliseconds the next nudge may be due, as far as is known; None: there is none to come."""
        due_ms = self.timers.earliest()
        if due_ms is None:
            return None
        now_ms = clock.now(monotonic_ms)
        return 0 if now_ms is None or not clock.heard else max(due_ms - now_ms, 0)

    def timers_to_fire(self, clock: BrokerClock, monotonic_ms: int, limit: int) -> list[tuple[str, int]]:
        """Keys to append a tick for now, at most `limit`, each with its due time.

        Where the clock must be asked it is one, due or not: its acknowledgement tells the broker's time, and it changes
        nothing if it comes too early.
        """
        due_ms = self.timers.earliest()
        if due_ms is None:
            return []
        if clock.must_ask(due_ms, monotonic_ms):
            return self._first()
        now_ms = clock.now(monotonic_ms)
        assert now_ms is not None
        return self.pop_due(now_ms, limit)

    def _first(self) -> list[tuple[str, int]]:
        """The next key to be nudged. It keeps its place: this tick may be too early for it."""
        while (first := self.timers.first()) is not None:
            really = self._due(first[0])
            if really == first[1]:
                return [first]
            self.timers.set(first[0], really)
        return []

    def pop_due(self, now_ms: int, limit: int) -> list[tuple[str, int]]:
        """Keys to nudge now, at most `limit`, each with its due time."""
        found = []
        for key, due_ms in self.timers.pop_due(now_ms, limit):
            # An entry from disk may be out of date; the aggregate is not.
            really = self._due(key)
            if really == due_ms:
                found.append((key, due_ms))
            else:
                self.timers.set(key, really)
        return found

    def _due(self, key: str) -> int | None:
        aggregate = self.states.get(key)
        return None if aggregate is None else self.domain.due(aggregate.state)

    def close(self) -> None:
        """Lets go of the aggregates."""
        self.states.close()


class Repeats(Generic[S]):
    """Records that another owner wrote between our own: each must repeat a decision that this state holds.

    An aggregate keeps the digest of its last decision alone. Older ones are compared along their chain: a decision
    names the digest of the one before it, so two neighbours among these records, and our own ones between them, must
    agree.
    """

    def __init__(self, state: PartitionState[S]) -> None:
        self._state = state
        #: (digest, digest of the decision before) by key and version.
        self._seen: dict[tuple[str, int], tuple[bytes, bytes]] = {}
        #: Digest of the record taken last.
        self.digest = b""
        #: Inbox offset that the decision looked at last names.
        self.cause = -1

    def take(self, record: Record) -> bool:
        """Takes the next record. Returns False for one that this state does not hold yet; `cause` is then its input.

        Raises Poisoned for another decision than ours, and for what is none.
        """
        try:
            return self._take(record)
        except Poisoned:
            if not self._state.is_skipped(record):
                raise
            self.digest = sha256(record.value or b"").digest()
            return True

    def _take(self, record: Record) -> bool:
        state = self._state
        place = state.log, state.partition, record.offset, record.value
        if record.key is None or record.value is None:
            raise Poisoned.by(*place, "it has no key or no value")
        try:
            key = record.key.decode()
            decision = state.domain.decode_decision(record.value)
        except Exception as error:
            raise Poisoned.by(*place, repr(error)) from error
        if state.is_foreign(key):
            raise Poisoned.by(*place, "its key belongs to another partition")
        aggregate = state.states.get(key)
        version = decision.version
        self.cause = decision.cause
        if version < 1:
            raise Poisoned.by(*place, f"{key} has no version {version}")
        if aggregate is None or version > aggregate.version:
            return False
        self.digest = digest = sha256(record.value).digest()
        previous = bytes(decision.previous_sha256)
        unknown = (b"", b"")
        known = self._seen.setdefault((key, version), (digest, previous))[0]
        before = self._seen.get((key, version - 1), unknown)[0]
        named = self._seen.get((key, version + 1), unknown)[1]
        ours = aggregate.digest if version == aggregate.version else b""
        if (
            known != digest
            or (before or previous) != previous
            or any(one not in (b"", digest) for one in (named, ours))
        ):
            what = f"two different decisions of {key} version {version}, the second at {record.offset}"
            raise Poisoned.by(*place, what)
        return True
