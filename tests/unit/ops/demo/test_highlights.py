"""The stories that the demo ends with: each group once, and what is said of it is true of it."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

import pytest

from ops.audit.group.membership import GroupState
from ops.demo import kept
from ops.demo.board import Board
from ops.demo.endings import Ending, ending
from ops.demo.highlights import Highlight, Kill, highlights, link
from ops.terminal.amounts import amount
from tests.unit.ops.demo.evenings import SimulatedEvening
from tests.unit.ops.simulated_system import START_MS


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return SimulatedEvening.of(600, 20, tmp_path_factory.mktemp("evening")).board()


def by_reason(found: list[Highlight]) -> dict[str, Highlight]:
    reasons = ("when groups was killed", "could not be charged", "too late", "the largest", "expired with")
    return {reason: one for one in found for reason in reasons if reason in one.why}


def test_each_group_is_named_once_for_a_reason_that_holds(board: Board) -> None:
    closed_ms = sorted(group.closed_ms for group in board.pooled() if group.state is GroupState.COMPLETED)
    killed_ms = closed_ms[len(closed_ms) // 2] - 1
    found = highlights(board, Kill("groups", killed_ms))
    assert len({one.group.key for one in found}) == len(found) >= 3
    named = by_reason(found)
    assert len(named) == len(found)
    first = named["when groups was killed"].group
    assert first.terms is not None
    assert first.deadline_ms - first.terms.window_ms < killed_ms < first.closed_ms
    largest = named["the largest"].group
    assert f"{len(largest.members)} members at" in named["the largest"].why
    assert named["expired with"].group.state is GroupState.EXPIRED
    for one in found:
        assert one.title == board.title(one.group)


def test_unpaid_members_are_counted_with_their_amount(board: Board) -> None:
    found = by_reason(highlights(board, None)).get("could not be charged")
    unpaid = {
        group.key: count
        for group in board.pooled()
        if (count := sum(ending(group, seat) is Ending.UNPAID for seat in group.seats.values()))
    }
    if not unpaid:
        assert found is None
        return
    assert found is not None and found.group.terms is not None
    count = int(re.match(r"(\d+) member", found.why)[1])  # type: ignore[index]
    assert count == unpaid[found.group.key] == max(unpaid.values())
    assert amount(board.sums_of(found.group).unpaid, found.group.terms.currency) in found.why


def test_an_empty_evening_has_no_stories() -> None:
    assert highlights(Board({}), Kill("groups", START_MS)) == []


def test_a_link_is_that_of_the_group() -> None:
    assert link("127.0.0.1:15060", "5d7c") == "http://127.0.0.1:15060/groups/5d7c"


def test_the_last_evening_replaces_the_one_before(tmp_path: Path) -> None:
    for text in ("first", "second"):
        run_dir = tmp_path / f"demo-{text}"
        (run_dir / kept.DATA).mkdir(parents=True)
        (run_dir / kept.DATA / "log").write_text(text)
        assert kept.keep(run_dir) == tmp_path / "evening"
    assert (tmp_path / "evening" / kept.DATA / "log").read_text() == "second"
    assert [one.name for one in tmp_path.iterdir()] == ["evening"]


def test_an_evening_in_which_a_stack_runs_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "evening").mkdir()
    (tmp_path / "demo-1").mkdir()
    handle = os.open(tmp_path / "evening", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        assert kept.keep(tmp_path / "demo-1") == tmp_path / "demo-1"
    finally:
        os.close(handle)
    assert {one.name for one in tmp_path.iterdir()} == {"evening", "demo-1"}
