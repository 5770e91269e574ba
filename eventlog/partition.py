"""State of one partition: all its aggregates, as the fold of its decision log, and how far that fold has come.

Pure: no I/O, no clock. Must only be used by one processor at a time; a new owner makes its own from the log.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from eventlog.aggregate import Aggregate, Domain, apply, decide
from eventlog.errors import Impossible
from eventlog.timers import Timers

S = TypeVar("S")


class Record(Protocol):
    """What the kernel reads of a record; aiokafka's ConsumerRecord is one."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class PartitionState(Generic[S]):
    """Aggregates of a partition by key, in memory."""

    def __init__(self, domain: Domain[S], partition: int) -> None:
        self.domain = domain
        self.partition = partition
        #: Offset in the decision log up to which everything is folded in; -1: nothing.
        self.applied = -1
        #: Greatest inbox offset that a decision names as its cause.
        self.greatest_cause = -1
        #: Inbox offset that comes next; -1 until the partition is recovered.
        self.next_input = -1
        self.timers = Timers()
        self._aggregates: dict[str, Aggregate[S]] = {}

    def __len__(self) -> int:
        return len(self._aggregates)

    def get(self, key: str) -> Aggregate[S] | None:
        """The aggregate of a key, or None."""
        return self._aggregates.get(key)

    def apply(self, record: Record) -> None:
        """Folds one record of the decision log. Raises Impossible at a hole in the log and as `aggregate.apply`."""
        if record.offset <= self.applied:
            return
        if record.offset != self.applied + 1 and self.applied >= 0:
            raise Impossible(f"the decision log jumps from {self.applied} to {record.offset}")
        if record.key is None or record.value is None:
            raise Impossible(f"decision {record.offset} has no key or no value")
        aggregate = self._get_or_make(record.key.decode())
        if apply(self.domain, aggregate, record.value, record.offset):
            self._changed(aggregate)
        self.applied = record.offset

    def decide(self, record: Record) -> bytes | None:
        """Decides one record of the inbox. Returns the decision's bytes, or None. Raises as `aggregate.decide`."""
        if record.key is None or record.value is None:
            raise Impossible(f"input {record.offset} has no key or no value")
        key = record.key.decode()
        known = self._aggregates.get(key)
        aggregate = known or Aggregate(key, self.domain.initial(key))
        decision = decide(self.domain, aggregate, record.value, record.offset, record.timestamp)
        if decision is None:
            # A nudge that changed nothing is sent again later, with growing pauses.
            return None
        if known is None:
            self._aggregates[key] = aggregate
        self._changed(aggregate)
        return decision

    def _get_or_make(self, key: str) -> Aggregate[S]:
        aggregate = self._aggregates.get(key)
        if aggregate is None:
            aggregate = self._aggregates[key] = Aggregate(key, self.domain.initial(key))
        return aggregate

    def _changed(self, aggregate: Aggregate[S]) -> None:
        self.greatest_cause = max(self.greatest_cause, aggregate.cause)
        self.timers.set(aggregate.key, self.domain.due(aggregate.state))
