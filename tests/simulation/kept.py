"""States of a partition that begin with a checkpoint, as a state directory would give them. Nothing is written here
but by `take`, which keeps to the checkpointer's promise: nothing unacknowledged, no offset that is not folded in."""

from __future__ import annotations

import heapq
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eventlog.aggregate import Aggregate
from eventlog.partition import PartitionState
from eventlog.states import Origin
from tests.simulation.broker import Record


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a state directory holds."""

    origin: Origin
    #: key -> (when due, pickled aggregate)
    aggregates: dict[str, tuple[int | None, bytes]]


class KeptStates:
    """The kernel's States over a checkpoint."""

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        self._kept = dict(checkpoint.aggregates) if checkpoint is not None else {}
        self._due = sorted((due, key) for key, (due, _) in self._kept.items() if due is not None)
        self._live: dict[str, Aggregate[Any]] = {}
        self.origin = checkpoint.origin if checkpoint is not None else Origin(-1, -1)

    def get(self, key: str) -> Aggregate[Any] | None:
        found = self._live.get(key)
        if found is None and key in self._kept:
            found = self._live[key] = pickle.loads(self._kept[key][1])
        return found

    def changed(self, aggregate: Aggregate[Any], due_ms: int | None) -> None:
        self._live[aggregate.key] = aggregate
        if due_ms is not None:
            heapq.heappush(self._due, (due_ms, aggregate.key))

    def due_until(self, until_ms: int) -> Iterable[tuple[int, str]]:
        while self._due and self._due[0][0] <= until_ms:
            yield heapq.heappop(self._due)

    def close(self) -> None:
        self._live.clear()

    def __len__(self) -> int:
        return len(self._live.keys() | self._kept.keys())

    def aggregates(self) -> list[Aggregate[Any]]:
        """All of them, decoded."""
        return [found for key in sorted(self._live.keys() | self._kept.keys()) if (found := self.get(key)) is not None]


def take(state: PartitionState[Any], states: KeptStates, log: list[Record]) -> Checkpoint | None:
    """A checkpoint of a state without unacknowledged output; None where somebody else decides here."""
    if state.written_ahead > state.applied:
        first, last = state.applied + 1, state.written_ahead
        if not all(state.covers(record) for record in log[first : last + 1]):
            return None
        state.applied = max(state.applied, last)
    origin = Origin(state.applied, state.greatest_cause)
    return Checkpoint(
        origin,
        {
            one.key: (state.domain.due(one.state), pickle.dumps(one, pickle.HIGHEST_PROTOCOL))
            for one in states.aggregates()
        },
    )
