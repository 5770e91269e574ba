"""The independent fold detects a lost decision, as opposed to one not made yet, and reports positions of partitions."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from tests.chaos.kernel.refold import compare, expected


def inbox_of(count: int) -> list[Any]:
    """Inputs of so many aggregates, each of which yields a decision."""
    return [
        SimpleNamespace(
            key=f"k{offset}".encode(),
            value=json.dumps({"add": 1, "id": f"i{offset}"}).encode(),
            offset=offset,
            timestamp=1_000,
        )
        for offset in range(count)
    ]


def log_of(inbox: list[Any], *left_out: int) -> list[Any]:
    values = [value for value in expected(inbox).values() if json.loads(value)[2] not in left_out]
    return [SimpleNamespace(value=value, headers=[], offset=offset) for offset, value in enumerate(values)]


def test_a_complete_log_is_exact() -> None:
    inbox = inbox_of(5)
    counts = compare([inbox], [log_of(inbox)], {0: 5}).counts
    wrong = ("missing", "undecided", "extra", "wrong", "conflicting", "out_of_order")
    assert [counts[name] for name in wrong] == [0] * len(wrong)
    assert counts["decisions"] == 5


def test_a_decision_is_lost_only_if_its_input_was_committed() -> None:
    inbox = inbox_of(5)
    verdict = compare([[], inbox], [[], log_of(inbox, 1, 4)], {0: 0, 1: 4})
    assert (verdict.counts["missing"], verdict.counts["undecided"]) == (1, 1)
    assert str(verdict.partitions[1]) == (
        "partition 1: inbox position 4, committed 4, next offset 5; log end 3; "
        "1 LOST: k1 version 1 of inbox offset 1; 1 NOT YET COMMITTED: k4 version 1 of inbox offset 4"
    )
    assert str(verdict.partitions[0]) == "partition 0: inbox position 0, committed 0, next offset 0; log end 0"


def test_no_decision_is_lost_if_nothing_was_committed() -> None:
    inbox = inbox_of(3)
    counts = compare([inbox], [[]], {}).counts
    assert (counts["missing"], counts["undecided"]) == (0, 3)
