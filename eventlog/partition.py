"""State of one partition: all its aggregates, as the fold of its decision log, and how far that fold has come.

Pure: no clock, and no I/O of its own (the keeper of the aggregates may have some). Must only be used by one processor
at a time; a new owner makes its own from the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from eventlog.aggregate import Aggregate, Domain, apply, decide
from eventlog.errors import Impossible
from eventlog.rocks import FOLDED, RocksStates
from eventlog.states import FOR_EVER_MS, MemoryStates, Origin, States
from eventlog.timers import Timers

S = TypeVar("S")


class Record(Protocol):
    """What the kernel reads of a record; aiokafka's ConsumerRecord is one."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


R = TypeVar("R", bound=Record)


class PartitionState(Generic[S]):
    """Aggregates of a partition by key."""

    def __init__(self, domain: Domain[S], partition: int, states: States[S] | None = None) -> None:
        self.domain = domain
        self.partition = partition
        self.states: States[S] = states if states is not None else MemoryStates()
        origin = self.states.origin
        #: Offset in the decision log up to which everything is folded in and acknowledged; -1: nothing.
        self.applied = origin.applied
        #: Greatest inbox offset that a decision names as its cause.
        self.greatest_cause = origin.greatest_cause
        #: Inbox offset that comes next; -1 until the partition is recovered.
        self.next_input = -1
        #: Own output at an offset beyond `applied + 1`: somebody else has written in between.
        self.written_ahead = -1
        self.timers = Timers(FOR_EVER_MS if isinstance(self.states, MemoryStates) else -1)
        #: What the last decision made here was about.
        self.decided: Aggregate[S] | None = None

    def __len__(self) -> int:
        return len(self.states)

    def get(self, key: str) -> Aggregate[S] | None:
        """The aggregate of a key, or None."""
        return self.states.get(key)

    def apply(self, record: Record) -> None:
        """Folds one record of the decision log. Raises Impossible at a hole in the log and as `aggregate.apply`."""
        if record.offset <= self.applied:
            return
        if record.offset != self.applied + 1 and self.applied >= 0:
            raise Impossible(f"the decision log jumps from {self.applied} to {record.offset}")
        if record.key is None or record.value is None:
            raise Impossible(f"decision {record.offset} has no key or no value")
        key = record.key.decode()
        aggregate = self.states.get(key) or Aggregate(key, self.domain.initial(key))
        if apply(self.domain, aggregate, record.value, record.offset):
            self._changed(aggregate)
        self.applied = record.offset
        if isinstance(self.states, RocksStates) and self.states.unsaved >= FOLDED:
            self.states.keep_folded(Origin(self.applied, self.greatest_cause))

    def following(self, records: Sequence[R]) -> Sequence[R]:
        """What of a fetched batch comes next; nothing if all of it was decided before. Raises Impossible at a hole."""
        first = records[0].offset
        if first > self.next_input:
            raise Impossible(f"input jumps from {self.next_input} to {first} on {self.partition}")
        return records if first == self.next_input else [one for one in records if one.offset >= self.next_input]

    def decide(self, record: Record) -> bytes | None:
        """Decides one record of the inbox. Returns the decision's bytes, or None. Raises as `aggregate.decide`."""
        if record.key is None or record.value is None:
            raise Impossible(f"input {record.offset} has no key or no value")
        key = record.key.decode()
        aggregate = self.states.get(key)
        if aggregate is None:
            aggregate = Aggregate(key, self.domain.initial(key))
        decision = decide(self.domain, aggregate, record.value, record.offset, record.timestamp)
        if decision is not None:
            self._changed(aggregate)
            self.decided = aggregate
        return decision

    def _changed(self, aggregate: Aggregate[S]) -> None:
        cause = aggregate.cause
        self.greatest_cause = cause if cause > self.greatest_cause else self.greatest_cause
        due_ms = self.domain.due(aggregate.state)
        self.states.changed(aggregate, due_ms)
        self.timers.set(aggregate.key, due_ms)

    def acknowledged(self, first: int, count: int) -> None:
        """Own output of `count` decisions stands in the log from offset `first` on.

        It moves `applied` only where it continues it: what somebody else wrote in between is not folded in here.
        """
        if first == self.applied + 1:
            self.applied += count
        elif first > self.applied:
            self.written_ahead = max(self.written_ahead, first + count - 1)

    def covers(self, record: Record) -> bool:
        """Whether a record that somebody else wrote is one that this state has already, so nothing is missing."""
        if record.key is None or record.value is None:
            return False
        aggregate = self.states.get(record.key.decode())
        return aggregate is not None and self.domain.open(record.value).version <= aggregate.version

    def look_ahead(self, now_ms: int, ahead_ms: int) -> None:
        """Makes the timers know all that falls due soon; does something twice in `ahead_ms` milliseconds."""
        if now_ms + ahead_ms // 2 <= self.timers.horizon_ms:
            return
        until_ms = self.timers.horizon_ms = now_ms + ahead_ms
        for due_ms, key in self.states.due_until(until_ms):
            self.timers.add(key, due_ms)

    def pop_due(self, now_ms: int, limit: int) -> list[tuple[str, int]]:
        """Keys to nudge now, at most `limit`, each with its due time."""
        found = []
        for key, due_ms in self.timers.pop_due(now_ms, limit):
            # The index of due times may be out of date; the aggregate is not.
            aggregate = self.states.get(key)
            really = None if aggregate is None else self.domain.due(aggregate.state)
            if really == due_ms:
                found.append((key, due_ms))
            else:
                self.timers.set(key, really)
        return found

    def close(self) -> None:
        """Lets go of the aggregates."""
        self.states.close()
