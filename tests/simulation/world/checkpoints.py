"""Checkpoints of a partition's states in memory, in place of a state directory.

`take` makes a checkpoint under the checkpointer's conditions: all output is acknowledged, and every offset in it is
folded.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from eventlog.core.aggregate import Aggregate
from eventlog.core.duplicate_check import DuplicateCheck
from eventlog.core.errors import InvariantViolation
from eventlog.core.partition_state import PartitionState
from eventlog.core.state_store import FOR_EVER_MS, NOTHING_STORED, CheckpointPosition
from eventlog.records.codec import Codec
from tests.simulation.world.broker import Record


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The content of a state directory."""

    checkpoint_position: CheckpointPosition
    #: key -> (due time, aggregate without its state, encoded state)
    aggregates: dict[str, tuple[int | None, Aggregate[None], bytes]]


class CheckpointStore:
    """The kernel's StateStore over a checkpoint."""

    indexes_timers = True
    unsaved = 0

    def __init__(self, checkpoint: Checkpoint | None, codec: Codec[Any]) -> None:
        self.codec = codec
        self._kept = dict(checkpoint.aggregates) if checkpoint is not None else {}
        self._due = {key: due for key, (due, *_) in self._kept.items()}
        self._live: dict[str, Aggregate[Any]] = {}
        self.checkpoint_position = checkpoint.checkpoint_position if checkpoint is not None else NOTHING_STORED

    def thaw(self, aggregate: Aggregate[Any]) -> None:
        """Replaces a state by its decoded encoding. Raises InvariantViolation if the two differ."""
        value = self.codec.encode(aggregate.state)
        again = self.codec.decode(value)
        # Equal mappings can differ in their order, which is part of the state; then their bytes differ.
        if again != aggregate.state or self.codec.encode(again) != value:
            raise InvariantViolation(f"the encoded state of {aggregate.key} decodes to another state")
        aggregate.state = again

    def get(self, key: str) -> Aggregate[Any] | None:
        found = self._live.get(key)
        if found is None and key in self._kept:
            _, kept, state = self._kept[key]
            found = self._live[key] = replace(kept, state=self.codec.decode(state))
        return found

    def changed(self, aggregate: Aggregate[Any], due_ms: int | None) -> None:
        self._live[aggregate.key] = aggregate
        self._due[aggregate.key] = due_ms

    def due_after(self, after_ms: int, most: int) -> Generator[tuple[int, str] | None, None, int]:
        reached, found, last_ms = FOR_EVER_MS, 0, after_ms
        for due_ms, key in sorted((due, key) for key, due in self._due.items() if due is not None and due > after_ms):
            if found >= most and due_ms > last_ms:
                reached = last_ms
                break
            found, last_ms = found + 1, due_ms
            yield due_ms, key
        return reached

    def save_folded(self, position: CheckpointPosition) -> None:
        """Never called: `unsaved` is always 0."""
        raise AssertionError(position)

    def mark_spoiled(self) -> None:
        """Does nothing: an error of the kernel ends the simulation."""

    def close(self) -> None:
        self._live.clear()

    def __len__(self) -> int:
        return len(self._live.keys() | self._kept.keys())

    def aggregates(self) -> list[Aggregate[Any]]:
        """All aggregates, decoded."""
        return [found for key in sorted(self._live.keys() | self._kept.keys()) if (found := self.get(key)) is not None]


def take(state: PartitionState[Any], states: CheckpointStore, log: list[Record]) -> Checkpoint | None:
    """A checkpoint of a state without unacknowledged output; None if another owner has written to the log."""
    if state.written_ahead > state.applied:
        first, last = state.applied + 1, state.written_ahead
        duplicates = DuplicateCheck(state)
        if not all(duplicates.is_duplicate(record) for record in log[first : last + 1]):
            return None
        state.applied, state.digest = last, duplicates.digest
    digest = sha256(log[state.applied].value or b"").digest() if state.applied >= 0 else b""
    if state.digest != digest:
        # A checkpoint with the digest of another record is discarded at the next start.
        raise InvariantViolation(f"the digest at {state.applied} is of another record")
    return Checkpoint(
        state.checkpoint_position,
        {
            one.key: (state.domain.due(one.state), replace(one, state=None), states.codec.encode(one.state))
            for one in states.aggregates()
        },
    )
