"""The protocol of a store of aggregates, and its simplest implementation, which keeps them in memory."""

from __future__ import annotations

from collections.abc import Generator
from typing import Generic, NamedTuple, Protocol, TypeVar

from eventlog.core.aggregate import Aggregate

S = TypeVar("S")

#: Later than any due time, in milliseconds since the epoch.
FOR_EVER_MS = 1 << 62


class CheckpointPosition(NamedTuple):
    """The place in the logs that a stored state reflects. A fold continues after it."""

    #: Offset of the decision log that the stored aggregates are folded to; -1 if nothing is stored.
    applied: int
    #: Greatest inbox offset that a folded decision names as its cause; -1 if there is none.
    greatest_cause: int
    #: SHA-256 of the record at `applied`; empty if unknown.
    digest: bytes = b""


NOTHING_STORED = CheckpointPosition(-1, -1)


class StateStore(Protocol[S]):
    """The aggregates of one partition, by key."""

    @property
    def checkpoint_position(self) -> CheckpointPosition:
        """The position of the checkpoint that was found when the store was opened."""
        ...

    @property
    def indexes_timers(self) -> bool:
        """Whether `due_after` returns due times, so that a timer may be evicted from memory."""
        ...

    @property
    def unsaved(self) -> int:
        """Number of aggregates that changed since the last checkpoint; 0 for a store without checkpoints."""
        ...

    def get(self, key: str) -> Aggregate[S] | None:
        """The current aggregate of a key, or None."""
        ...

    def changed(self, aggregate: Aggregate[S], due_ms: int | None) -> None:
        """Records a change of an aggregate, new aggregates included, and its due time. Call it after each change."""
        ...

    def due_after(self, after_ms: int, most: int) -> Generator[tuple[int, str] | None, None, int]:
        """Yields (due time, key) of timers due later than `after_ms`, and None so that the caller can do other work.

        A pair may be out of date. The generator returns the time up to which it yielded all timers: it stops after
        about `most` of them, or returns FOR_EVER_MS if there are no more.
        """
        ...

    def save_folded(self, position: CheckpointPosition) -> None:
        """Writes all changes in one checkpoint. Only for use while a log is folded: every change must be in the log."""
        ...

    def mark_spoiled(self) -> None:
        """Forbids further checkpoints, because an aggregate in memory is half changed."""
        ...

    def close(self) -> None:
        """Releases memory and files. Changes since the last checkpoint are lost."""
        ...

    def __len__(self) -> int:
        """Number of aggregates, at least approximately."""
        ...


class InMemoryStore(Generic[S]):
    """All aggregates in memory, without checkpoints."""

    checkpoint_position = NOTHING_STORED
    indexes_timers = False
    unsaved = 0

    def __init__(self) -> None:
        self._aggregates: dict[str, Aggregate[S]] = {}

    def get(self, key: str) -> Aggregate[S] | None:
        """See StateStore."""
        return self._aggregates.get(key)

    def changed(self, aggregate: Aggregate[S], due_ms: int | None) -> None:
        """See StateStore."""
        self._aggregates[aggregate.key] = aggregate

    def due_after(self, after_ms: int, most: int) -> Generator[tuple[int, str] | None, None, int]:
        """Yields nothing: all timers are in memory."""
        yield from ()
        return FOR_EVER_MS

    def save_folded(self, position: CheckpointPosition) -> None:
        """Does nothing: there is no checkpoint to write."""

    def mark_spoiled(self) -> None:
        """Does nothing: there is no checkpoint to forbid."""

    def close(self) -> None:
        """See StateStore."""
        self._aggregates.clear()

    def __len__(self) -> int:
        return len(self._aggregates)
