"""The state of a partition is the fold of its log, for every owner and in any number of steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.core import partition_state
from eventlog.core.errors import InvariantViolation, Spoiled
from eventlog.core.partition_state import PartitionState
from eventlog.core.state_store import CheckpointPosition, InMemoryStore
from tests.unit.eventlog.counting import Counter, Counting, add, record


def fresh() -> PartitionState[Counter]:
    return PartitionState(Counting(), 0)


def test_a_gap_in_the_offsets_of_the_log_violates_an_invariant() -> None:
    live = fresh()
    values = [live.decide(record(n, add(1, str(n)))) for n in range(3)]
    replayed = fresh()
    replayed.apply(record(0, values[0]))
    with pytest.raises(InvariantViolation, match="jumps from 0 to 2"):
        replayed.apply(record(2, values[2]))


def test_an_input_without_an_event_creates_no_aggregate() -> None:
    live = fresh()
    assert live.decide(record(0, b'{"tick": 1}')) is None
    assert len(live) == 0


@given(
    inputs=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.integers(0, 3)), max_size=40),
    zombie_from=st.integers(0, 40),
    zombie_to=st.integers(0, 40),
)
def test_two_owners_write_the_same_bytes_and_a_log_with_duplicates_gives_the_same_state(
    inputs: list[tuple[str, int, int]], zombie_from: int, zombie_to: int
) -> None:
    records = [
        record(n, add(amount, str(id_)), key.encode(), timestamp=5_000 + 90 * n)
        for n, (key, amount, id_) in enumerate(inputs)
    ]
    owner = fresh()
    decided = {r.offset: owner.decide(r) for r in records}
    # A zombie decides a part of the same inbox again, from its own state, and its output is written later.
    zombie = fresh()
    again = {r.offset: zombie.decide(r) for r in records if r.offset < zombie_to}
    assert all(decided[offset] == value for offset, value in again.items())
    log = [(r.key, decided[r.offset]) for r in records if decided[r.offset]]
    log += [(r.key, again[r.offset]) for r in records if zombie_from <= r.offset < zombie_to and again[r.offset]]
    replayed = fresh()
    for offset, (key, value) in enumerate(log):
        # The fold compares the latest version of a key, and ignores older duplicates by their version.
        replayed.apply(record(offset, value, key))
    assert {k: replayed.get(k) for k in "abc"} == {k: owner.get(k) for k in "abc"}
    assert replayed.greatest_cause == owner.greatest_cause


def decisions(count: int) -> list[Any]:
    live: PartitionState[Counter] = PartitionState(Counting(), 0)
    return [record(n, live.decide(record(n, add(1, str(n))))) for n in range(count)]


FOREIGN = {
    "bad bytes": (b"\xff", b"k"),
    "no value": (None, b"k"),
    "no key": (b"{}", None),
    "a key that is no text": (b"{}", b"\xff"),
    "a gap": (Counting().encode_decision("k", 9, 1, 1, b"", []), b"k"),
    "a fork": (Counting().encode_decision("k", 2, 1, 1, b"", []), b"k"),
    "a broken chain": (Counting().encode_decision("k", 3, 1, 1, b"", []), b"k"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_invalid_decision_is_ignored_only_if_its_skip_is_recorded(kind: str) -> None:
    value, key = FOREIGN[kind]
    good = decisions(3)
    log = [*good[:2], record(2, value, key), record(3, good[2].value)]
    queries: list[tuple[str, int, int]] = []

    def is_skipped(topic: str, partition: int, one: Any) -> bool:
        queries.append((topic, partition, one.offset))
        return True

    state: PartitionState[Counter] = PartitionState(Counting(), 0, log="log", is_skipped=is_skipped)
    for one in log:
        state.apply(one)
    found = state.get("k")
    assert found is not None
    assert (found.state.total, found.version, state.applied) == (3, 3, 3)
    # The skip is queried for the invalid record alone, so a skip of a valid record has no effect.
    assert queries == [("log", 0, 2)]
    strict: PartitionState[Counter] = PartitionState(Counting(), 0)
    with pytest.raises((InvariantViolation, UnicodeDecodeError)):
        for one in log:
            strict.apply(one)


class CountingStore(InMemoryStore[Counter]):
    """Counts changes, and records checkpoints and the mark of a spoiled state."""

    def __init__(self) -> None:
        super().__init__()
        self.unsaved = 0
        self.saved: list[CheckpointPosition] = []
        self.spoiled = False

    def changed(self, aggregate: Any, due_ms: int | None) -> None:
        super().changed(aggregate, due_ms)
        self.unsaved += 1

    def save_folded(self, position: CheckpointPosition) -> None:
        self.saved.append(position)
        self.unsaved = 0

    def mark_spoiled(self) -> None:
        self.spoiled = True


def test_a_fold_writes_a_checkpoint_after_so_many_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_state, "MAX_UNSAVED", 3)
    store = CountingStore()
    state: PartitionState[Counter] = PartitionState(Counting(), 0, store)
    for one in decisions(7):
        state.apply(one)
    assert [(one.applied, one.greatest_cause) for one in store.saved] == [(2, 2), (5, 5)]


def test_an_event_that_can_not_be_applied_spoils_the_state_and_its_store() -> None:
    class EvolveRaises(Counting):
        def evolve(self, state: Counter, event: dict[str, Any], at_ms: int) -> None:
            raise LookupError("evolve")

    store = CountingStore()
    state: PartitionState[Counter] = PartitionState(EvolveRaises(), 0, store)
    with pytest.raises(Spoiled, match="can't be applied"):
        state.decide(record(0, add(1, "a")))
    assert state.poisoned is not None
    assert store.spoiled
