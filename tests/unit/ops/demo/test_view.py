"""The view of the demo shows the content of the logs, on terminals of any size and encoding."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ops.audit.group.membership import GroupState
from ops.demo.plan import plan
from ops.demo.player import Tally
from ops.demo.screen.bar import ASCII, BLOCKS, bar, glyphs
from ops.demo.screen.view import WIDE, View, animated, price_now
from tests.unit.ops.demo.evenings import (
    Services,
    SimulatedEvening,
    console,
    has_control_characters,
    minor,
    printed,
    scripted_board,
)
from tests.unit.ops.scripted_logs import ScriptedLogs, completed_group, expired_group, opening
from tests.unit.ops.simulated_system import START_MS

SIZES = [(80, 24), (100, 30), (132, 43), (WIDE, 30), (200, 50)]


def drawn(view: View, width: int = 200, height: int = 50, encoding: str = "utf-8") -> str:
    made = console(width, height, encoding)
    made.print(view)
    return printed(made)


def opened() -> ScriptedLogs:
    logs = ScriptedLogs()
    opening(logs)
    return logs


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> View:
    """The middle of a large evening."""
    evening = SimulatedEvening.of(2000, 20, tmp_path_factory.mktemp("evening"))
    view = View(evening.system.evening, evening.board(until_s=30), Tally(placed=900), Services(), "orders arrive")
    view.incident = "groups was killed with SIGKILL"
    view.started_s = START_MS / 1000
    view.now_s = lambda: START_MS / 1000 + 30
    return view


def test_a_forming_group_is_a_bar_with_its_price() -> None:
    group = scripted_board(opened()).forming()[0]
    assert bar(group).plain == "██│"
    assert bar(group, ASCII).plain == "##|"
    assert price_now(group) == "¥89.00"


def test_the_bar_has_characters_that_the_terminal_can_show() -> None:
    assert glyphs("utf-8") is BLOCKS
    assert glyphs("gbk") is glyphs("ascii") is glyphs("latin-1") is ASCII


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_view_shows_groups_money_and_services(width: int, height: int) -> None:
    view = View(plan(10, 1), scripted_board(opened()), Tally(placed=2), Services(), incident="groups was killed")
    text = drawn(view, width, height)
    for expected in ("Ceramic mug", "2/3", "¥267.00", "down", "restarted 2×", "groups was killed", "2 of 10 orders"):
        assert expected in text


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_view_fits_the_terminal(running: View, width: int, height: int) -> None:
    lines = drawn(running, width, height).splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_sums_on_the_screen_add_up(running: View, width: int, height: int) -> None:
    text = drawn(running, width, height)
    for currency, sums in running.board.money().items():
        line = next(line for line in text.splitlines() if re.search(rf"(^|│ ){currency} ", line))
        cells = re.search(rf"{currency} .*", line)
        assert cells is not None
        held, captured, released, still_held, refunded = (
            minor(cell, currency) for cell in re.findall(r"(?:JP)?¥[\d,.]+|-", cells[0])
        )
        assert held == captured + released + still_held == sums.held
        assert refunded == sums.refunded
    states = running.board.states()
    assert f"{states[GroupState.FORMING]} forming" in text
    assert f"solo purchases: {len(running.board.solo())};" in text
    unpaid = sum(sums.unpaid_members for sums in running.board.money().values())
    assert unpaid > 0
    assert f"unpaid members: {unpaid}" in text


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_groups_without_a_line_are_counted_and_the_legend_is_shown(running: View, width: int, height: int) -> None:
    text = drawn(running, width, height)
    rows = len(re.findall(r"\d+/\d+ ", text))
    more = re.search(r"and (\d+) more groups are forming", text)
    assert more is not None
    assert rows + int(more[1]) == len(running.board.forming())
    assert rows >= 5
    assert "seat reserved until its hold is authorised" in text
    assert "held = captured + released + still held" in text


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "latin-1"])
def test_the_view_is_drawn_in_every_encoding(running: View, encoding: str) -> None:
    for width, height in SIZES:
        assert len(drawn(running, width, height, encoding).splitlines()) < height


def test_no_group_is_forming_at_the_end() -> None:
    view = View(plan(10, 1), scripted_board(completed_group()), Tally(), Services())
    assert "no group is forming" in drawn(view, 80, 24)


def test_a_line_of_progress_has_counts_amounts_and_stopped_processes(running: View) -> None:
    line = running.progress()
    assert not has_control_characters(line)
    assert "\n" not in line
    assert line.startswith("00:30 orders arrive: 900 of 2,000 orders; groups: ")
    assert "unpaid members: " in line
    assert line.endswith("down: groups")


def test_sums_are_held_captured_released_and_refunded() -> None:
    sums = scripted_board(completed_group()).money()["CNY"]
    assert (sums.held, sums.captured, sums.released, sums.net) == (44500, 31400, 13100, 31400)
    assert (sums.full_price, sums.discount, sums.unpaid) == (31600, 200, 0)
    assert scripted_board(expired_group()).money()["CNY"].still_held == 0


def test_a_dumb_terminal_and_a_file_are_not_redrawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rich.console import Console

    assert animated(Console(force_terminal=True, _environ={"TERM": "xterm"}))
    assert not animated(Console(force_terminal=True, _environ={"TERM": "dumb"}))
    with (tmp_path / "out").open("w") as file:
        assert not animated(Console(file=file))
