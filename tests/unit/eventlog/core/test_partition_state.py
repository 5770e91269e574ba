"""A partition's state is the fold of its log, whoever folds it and in whatever pieces."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.core.duplicate_check import DuplicateCheck
from eventlog.core.errors import InvariantViolation, Poisoned
from eventlog.core.partition_state import PartitionState
from tests.unit.eventlog.counting import Counter, Counting, add, record


def fresh() -> PartitionState[Counter]:
    return PartitionState(Counting(), 0)


def test_a_hole_in_the_log_is_impossible() -> None:
    live = fresh()
    values = [live.decide(record(n, add(1, str(n)))) for n in range(3)]
    replayed = fresh()
    replayed.apply(record(0, values[0]))
    with pytest.raises(InvariantViolation, match="jumps from 0 to 2"):
        replayed.apply(record(2, values[2]))


def test_an_input_that_yields_nothing_makes_no_aggregate() -> None:
    live = fresh()
    assert live.decide(record(0, b'{"tick": 1}')) is None
    assert len(live) == 0


@given(
    inputs=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.integers(0, 3)), max_size=40),
    zombie_from=st.integers(0, 40),
    zombie_to=st.integers(0, 40),
)
def test_two_owners_write_the_same_bytes_and_any_replay_gives_one_state(
    inputs: list[tuple[str, int, int]], zombie_from: int, zombie_to: int
) -> None:
    records = [
        record(n, add(amount, str(id_)), key.encode(), timestamp=5_000 + 90 * n)
        for n, (key, amount, id_) in enumerate(inputs)
    ]
    owner = fresh()
    decided = {r.offset: owner.decide(r) for r in records}
    # A zombie decides a part of the same inbox again, from the state it had, and its output lands late.
    zombie = fresh()
    again = {r.offset: zombie.decide(r) for r in records if r.offset < zombie_to}
    assert all(decided[offset] == value for offset, value in again.items())
    log = [(r.key, decided[r.offset]) for r in records if decided[r.offset]]
    log += [(r.key, again[r.offset]) for r in records if zombie_from <= r.offset < zombie_to and again[r.offset]]
    replayed = fresh()
    for offset, (key, value) in enumerate(log):
        # Only the latest version can be compared; older repeats are dropped by their version.
        replayed.apply(record(offset, value, key))
    assert {k: replayed.get(k) for k in "abc"} == {k: owner.get(k) for k in "abc"}
    assert replayed.greatest_cause == owner.greatest_cause


def other(values: list[bytes | None], version: int) -> bytes:
    """A decision of a version that this owner has not made."""
    key, _, cause, time_ms, previous, _ = json.loads(values[version - 1] or b"")
    return json.dumps([key, version, cause, time_ms, previous, [{"added": 99, "id": "foreign"}]]).encode()


def decided(count: int) -> tuple[PartitionState[Counter], list[bytes | None]]:
    live = fresh()
    return live, [live.decide(record(n, add(1, str(n)))) for n in range(count)]


def test_what_another_owner_wrote_between_our_records_is_ours_again() -> None:
    live, values = decided(4)
    duplicates = DuplicateCheck(live)
    assert all(duplicates.is_duplicate(record(offset, values[n])) for offset, n in enumerate((0, 1, 2, 2, 3, 0)))
    assert duplicates.digest == sha256(values[0] or b"").digest()


def test_a_decision_that_this_state_does_not_hold_is_no_repeat() -> None:
    live, values = decided(4)
    successor, more = decided(5)
    assert successor.greatest_cause == 4
    assert not DuplicateCheck(live).is_duplicate(record(0, more[4]))
    assert not DuplicateCheck(live).is_duplicate(record(0, values[0], key=b"never heard of"))
    with pytest.raises(Poisoned, match="no key or no value"):
        DuplicateCheck(live).is_duplicate(record(0, None))


@pytest.mark.parametrize(
    ("gap", "version"),
    [
        # The digest of the last one is known.
        ((), 4),
        # An older one is named by the one after it, and our own is among them.
        ((2,), 2),
        ((1,), 2),
        ((0, 2), 1),
    ],
)
def test_another_decision_of_one_version_is_impossible(gap: tuple[int, ...], version: int) -> None:
    live, values = decided(4)
    duplicates = DuplicateCheck(live)
    for offset, n in enumerate(gap):
        assert duplicates.is_duplicate(record(offset, values[n]))
    if gap == (0, 2):
        # Versions 1 and 3 are known: what comes between must fit both.
        version = 2
    with pytest.raises(InvariantViolation, match="two different decisions"):
        duplicates.is_duplicate(record(9, other(values, version)))


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
def test_a_decision_that_can_not_be_folded_is_passed_over_where_its_skip_is_recorded(kind: str) -> None:
    value, key = FOREIGN[kind]
    good = decisions(3)
    log = [*good[:2], record(2, value, key), record(3, good[2].value)]
    asked: list[tuple[str, int, int]] = []

    def is_skipped(topic: str, partition: int, one: Any) -> bool:
        asked.append((topic, partition, one.offset))
        return True

    state: PartitionState[Counter] = PartitionState(Counting(), 0, log="log", is_skipped=is_skipped)
    for one in log:
        state.apply(one)
    found = state.get("k")
    assert found is not None
    assert (found.state.total, found.version, state.applied) == (3, 3, 3)
    # It is asked for that record alone: a skip of a record that can be folded changes nothing.
    assert asked == [("log", 0, 2)]
    strict: PartitionState[Counter] = PartitionState(Counting(), 0)
    with pytest.raises((InvariantViolation, UnicodeDecodeError)):
        for one in log:
            strict.apply(one)
