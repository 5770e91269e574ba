"""Where a partition keeps its aggregates: the contract, and the simplest keeper, which holds all of them in memory."""

from __future__ import annotations

from collections.abc import Generator
from typing import Generic, NamedTuple, Protocol, TypeVar

from eventlog.core.aggregate import Aggregate

S = TypeVar("S")

#: Later than any due time: a keeper in memory knows them all.
FOR_EVER_MS = 1 << 62


class CheckpointPosition(NamedTuple):
    """What a fold starts from: a checkpoint, or nothing."""

    #: Offset of the decision log that the kept aggregates are folded to; -1: nothing is kept.
    applied: int
    #: Greatest inbox offset that a kept decision names as its cause.
    greatest_cause: int
    #: SHA-256 of the record at `applied`; empty: not known.
    digest: bytes = b""


class StateStore(Protocol[S]):
    """Aggregates of one partition by key."""

    @property
    def origin(self) -> CheckpointPosition:
        """What was kept when this was opened."""
        ...

    def get(self, key: str) -> Aggregate[S] | None:
        """The aggregate as it is now, or None."""
        ...

    def changed(self, aggregate: Aggregate[S], due_ms: int | None) -> None:
        """To be called after each change of an aggregate, and once when it is new."""
        ...

    def due_after(self, after_ms: int, most: int) -> Generator[tuple[int, str] | None, None, int]:
        """Yields (due time, key) of what falls due later than `after_ms`, and None in between; some may be out of date.

        Returns the time up to which it gave all there is: about `most` of them, or FOR_EVER_MS where there are no more.
        """
        ...

    def close(self) -> None:
        """Lets go of what it holds. What was not kept in a checkpoint is forgotten."""
        ...

    def __len__(self) -> int:
        """Aggregates, at least roughly."""
        ...


class InMemoryStore(Generic[S]):
    """All aggregates in memory; nothing is kept."""

    origin = CheckpointPosition(-1, -1)

    def __init__(self) -> None:
        self._aggregates: dict[str, Aggregate[S]] = {}

    def get(self, key: str) -> Aggregate[S] | None:
        """See States."""
        return self._aggregates.get(key)

    def changed(self, aggregate: Aggregate[S], due_ms: int | None) -> None:
        """See States."""
        self._aggregates[aggregate.key] = aggregate

    def due_after(self, after_ms: int, most: int) -> Generator[tuple[int, str] | None, None, int]:
        """Nothing: the timers know all there is."""
        yield from ()
        return FOR_EVER_MS

    def close(self) -> None:
        """Forgets everything."""
        self._aggregates.clear()

    def __len__(self) -> int:
        return len(self._aggregates)
