"""The view of the demo shows the content of the logs. Method: the hand-written logs, drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console

from ops.audit.group.membership import GroupState
from ops.demo.board import Board, Money
from ops.demo.plan import plan
from ops.demo.player import Tally
from ops.demo.results import print_results
from ops.demo.view import ServiceState, View, bar, price_now
from shared_kernel.topics import GROUP_LOG, PAYMENT_LOG
from tests.unit.ops.scripted_logs import ScriptedLogs, completed_group, expired_group, opening


@dataclass
class Services:
    def states(self) -> Mapping[str, ServiceState]:
        return {"orders": ServiceState(True, 17, 0), "groups": ServiceState(False, 18, 2)}


def board(logs: ScriptedLogs) -> Board:
    made = Board({"mug": "Ceramic mug"})
    # As in a real run: duplicates, and the two topics interleaved.
    made.take(PAYMENT_LOG.name, logs.payments[:3])
    made.take(GROUP_LOG.name, logs.groups)
    made.take(GROUP_LOG.name, logs.groups[-1:])
    made.take(PAYMENT_LOG.name, logs.payments[3:])
    return made


def drawn(view: View) -> str:
    console = Console(file=io.StringIO(), width=160, height=50)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_forming_group_is_a_bar_with_its_price() -> None:
    logs = ScriptedLogs()
    opening(logs)
    group = board(logs).forming()[0]
    assert bar(group).plain == "██│"
    assert price_now(group) == "¥89.00"


def test_the_live_view_shows_groups_money_and_services() -> None:
    logs = ScriptedLogs()
    opening(logs)
    text = drawn(View(plan(10, 1), board(logs), Tally(placed=2), Services(), incident="groups was killed"))
    for expected in ("Ceramic mug", "2/3", "¥267.00", "● down", "restarted 2×", "groups was killed", "2 of 10 orders"):
        assert expected in text


def test_amounts_are_held_captured_and_released() -> None:
    assert board(completed_group()).money() == {"CNY": Money(held=44500, captured=31400, released=13100)}
    assert board(expired_group()).money()["CNY"].open == 0


def test_a_plain_line_reports_the_progress_at_most_every_interval() -> None:
    console = Console(file=io.StringIO(), width=200)
    view = View(plan(10, 1), board(completed_group()), Tally(placed=5), Services(), stage="the evening")
    view.print_plain(console)
    view.print_plain(console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 1
    assert "the evening: 5 of 10 orders, 0 groups forming, 1 completed" in lines[0]
    assert "down: groups" in lines[0]


def test_the_results_have_the_payment_of_each_group() -> None:
    console = Console(file=io.StringIO(), width=160)
    print_results(console, board(completed_group()), Tally(placed=5))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for expected in ("¥79.00 ×1", "¥314.00", " 3 paid ¥79.00 × 4 = ¥314.00", "ann (leads)", "refused"):
        assert expected in text


def test_the_results_have_the_expired_groups() -> None:
    console = Console(file=io.StringIO(), width=160)
    made = board(expired_group())
    print_results(console, made, Tally(placed=2))
    assert made.states() == {GroupState.EXPIRED: 1}
    assert isinstance(console.file, io.StringIO)
    assert "expired, all released" in console.file.getvalue()
