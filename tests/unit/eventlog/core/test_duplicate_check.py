"""Records of another owner must repeat decisions of the state, and are compared along their chain of digests."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from eventlog.core.duplicate_check import DuplicateCheck
from eventlog.core.errors import InvariantViolation, Poisoned
from eventlog.core.partition_state import PartitionState
from tests.unit.eventlog.counting import Counter, Counting, add, record


def decided(count: int) -> tuple[PartitionState[Counter], list[bytes | None]]:
    live: PartitionState[Counter] = PartitionState(Counting(), 0)
    return live, [live.decide(record(n, add(1, str(n)))) for n in range(count)]


def different(values: list[bytes | None], version: int) -> bytes:
    """A decision of a version with other events than the state's."""
    key, _, cause, time_ms, previous, _ = json.loads(values[version - 1] or b"")
    return json.dumps([key, version, cause, time_ms, previous, [{"added": 99, "id": "foreign"}]]).encode()


def test_repeated_decisions_of_any_version_are_duplicates() -> None:
    live, values = decided(4)
    check = DuplicateCheck(live)
    assert all(check.is_duplicate(record(offset, values[n])) for offset, n in enumerate((0, 1, 2, 2, 3, 0)))
    assert check.digest == sha256(values[0] or b"").digest()


def test_a_decision_that_the_state_has_not_made_is_no_duplicate() -> None:
    live, values = decided(4)
    successor, more = decided(5)
    assert successor.greatest_cause == 4
    assert not DuplicateCheck(live).is_duplicate(record(0, more[4]))
    assert not DuplicateCheck(live).is_duplicate(record(0, values[0], key=b"unknown key"))
    with pytest.raises(Poisoned, match="no key or no value"):
        DuplicateCheck(live).is_duplicate(record(0, None))


@pytest.mark.parametrize(
    ("duplicates", "version"),
    [
        # The state has the digest of its last version.
        ((), 4),
        # A later decision names the digest of an older one, among the records or in the state.
        ((2,), 2),
        ((1,), 2),
        # Version 2 must fit both neighbours, versions 1 and 3.
        ((0, 2), 2),
    ],
)
def test_a_different_decision_of_a_version_violates_an_invariant(duplicates: tuple[int, ...], version: int) -> None:
    live, values = decided(4)
    check = DuplicateCheck(live)
    for offset, n in enumerate(duplicates):
        assert check.is_duplicate(record(offset, values[n]))
    with pytest.raises(InvariantViolation, match="two different decisions"):
        check.is_duplicate(record(9, different(values, version)))
