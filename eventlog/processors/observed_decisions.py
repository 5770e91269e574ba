"""Decisions made in this process, for an observer such as a log of business events, once the log has them.

A decision is observed once: by the process that decided it first. Replays, recoveries and the duplicates of an owner
that has lost its partition are not observed; nor are the decisions of a process that dies before their acknowledgement.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from eventlog.core.partition_state import PartitionState


class ObservedDecision(NamedTuple):
    """A decision in the log. `traceparent` is that of its record."""

    key: str
    value: bytes
    traceparent: bytes | None


class DecisionObserver(Protocol):
    """Observes as many decisions as it has room for."""

    def room(self) -> int:
        """The number of decisions that it takes now. Called once a batch."""
        ...

    def take(self, decisions: Sequence[ObservedDecision], left_out: int) -> None:
        """Takes decisions in the order of the log. `left_out` others are in the log, for which there was no room."""
        ...


class _Kept(NamedTuple):
    #: Number of the decision among those made on its state.
    number: int
    decision: ObservedDecision


class _State:
    """The decisions of one partition state."""

    __slots__ = ("acknowledged", "kept", "state")

    def __init__(self, state: PartitionState[Any]) -> None:
        self.state = state
        self.acknowledged = 0
        self.kept: deque[_Kept] = deque()


class ObservedDecisions:
    """The decisions of one decider that wait for their acknowledgement. Without an observer it keeps none."""

    def __init__(self, observer: DecisionObserver | None = None) -> None:
        self._observer = observer
        self._states: dict[int, _State] = {}
        #: Decisions that may still be kept; one look at it is all that a decision costs when it is 0.
        self.room = 0

    def begin_batch(self) -> None:
        """Asks the observer for room."""
        if self._observer is not None:
            self.room = self._observer.room()

    def keep(self, state: PartitionState[Any], key: str, value: bytes, traceparent: bytes | None) -> None:
        """Keeps the decision that was just made on a state."""
        self.room -= 1
        of_state = self._of(state)
        number = of_state.acknowledged + state.pending
        of_state.kept.append(_Kept(number, ObservedDecision(key, value, traceparent)))

    def acknowledged(self, state: PartitionState[Any], first: int, count: int) -> None:
        """Call it before the state: `count` decisions made on it are in the log from offset `first` on."""
        if self._observer is None:
            return
        of_state = self._of(state)
        of_state.acknowledged += count
        kept, found = of_state.kept, []
        while kept and kept[0].number <= of_state.acknowledged:
            found.append(kept.popleft().decision)
        # Behind another writer's records they may be duplicates of these.
        if first == state.applied + 1:
            self._observer.take(found, count - len(found))

    def _of(self, state: PartitionState[Any]) -> _State:
        found = self._states.get(state.partition)
        if found is None or found.state is not state:
            found = self._states[state.partition] = _State(state)
        return found
