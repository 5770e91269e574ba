"""The view of the running evening: two columns of panels on a wide terminal, one below the other on a narrow one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from chassis.telemetry.printable import printable
from ops.audit.group.decisions import GroupFold
from ops.audit.group.membership import GroupState
from ops.demo.board import Board
from ops.demo.plan import Evening
from ops.demo.player import Tally
from ops.demo.screen import money_columns
from ops.demo.screen.bar import Glyphs, bar, glyphs, legend
from ops.terminal.amounts import amount
from ops.terminal.sheet import Column, Sheet

FRAMES_PER_SECOND = 5
#: The width from which the panels stand in two columns, and the width of the left one.
WIDE, LEFT = 154, 78
#: Lines of news on a narrow terminal.
FEW_NEWS = 2
#: The borders of a panel, in lines and in columns.
BORDER = 2
MONEY = "held = captured + released + still held; unpaid members could not be charged"
GROUPS = (
    Column("campaign", right=False),
    Column("group", right=False),
    Column("seats", right=False, optional=True),
    Column("members"),
    Column("price"),
    Column("closes in"),
)


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The state of a process."""

    up: bool
    pid: int
    #: The number of restarts.
    restarts: int


class Watched(Protocol):
    """The source of the states of processes."""

    def states(self) -> Mapping[str, ServiceState]:
        """The states by name."""
        ...


def animated(console: Console) -> bool:
    """Whether the terminal can redraw a view. A dumb terminal, a pipe and a file get lines."""
    return console.is_terminal and not console.is_dumb_terminal


@dataclass(slots=True)
class View:
    """The content of the view, and its rendering."""

    evening: Evening
    board: Board
    tally: Tally
    services: Watched
    #: The current step.
    stage: str = "starting"
    #: The last incident of a service.
    incident: str = ""
    #: The start of the evening, in seconds since the epoch, and the clock of that unit.
    started_s: float = 0.0
    now_s: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.started_s = self.started_s or self.now_s()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's hook: the view, one line below the height of the terminal at most."""
        signs = glyphs(options.encoding)
        height = options.size.height - 1
        if options.max_width >= WIDE:
            yield from self._wide(console, options, signs, height)
        else:
            yield from self._narrow(console, options, signs, height)

    def _wide(self, console: Console, options: ConsoleOptions, signs: Glyphs, height: int) -> RenderResult:
        head, foot = self._head(repeats=True), Group(legend(signs), MONEY)
        height -= _height(console, options, Group(head, foot))
        side_options = options.update(width=options.max_width - LEFT)
        side: list[RenderableType] = [
            Panel(Group(self._services(signs), *self._incident()), title="services", title_align="left"),
            Panel(Group(self._money(), self._counts()), title="money and groups", title_align="left"),
        ]
        left = height - _height(console, side_options, Group(*side)) - BORDER
        if left > 0:
            side.append(Panel(self._news(left), title="news", title_align="left"))
        groups = self._groups(signs, height - BORDER)
        both = Table.grid(expand=True)
        both.add_column(width=LEFT)
        both.add_column(ratio=1)
        both.add_row(Panel(groups, title="groups that form", title_align="left", height=height), Group(*side))
        yield head
        yield both
        yield foot

    def _narrow(self, console: Console, options: ConsoleOptions, signs: Glyphs, height: int) -> RenderResult:
        head = self._head(repeats=False)
        top = Group(head, self._services_line(signs), *self._incident(), self._money(), self._counts())
        foot = Group(self._news(FEW_NEWS), legend(signs), MONEY)
        height -= _height(console, options, Group(top, foot))
        yield top
        yield self._groups(signs, height)
        yield foot

    def elapsed(self) -> str:
        """The time since the start of the evening."""
        seconds = max(0, int(self.now_s() - self.started_s))
        return f"{seconds // 60:02d}:{seconds % 60:02d}"

    def progress(self) -> str:
        """The state of the evening on one line, for output that is not redrawn."""
        states = self.board.states()
        money = self.board.money()
        amounts = "; ".join(
            f"{amount(sums.still_held, currency)} still held, {amount(sums.captured, currency)} captured, "
            f"{amount(sums.released, currency)} released"
            for currency, sums in money.items()
        )
        unpaid = sum(sums.unpaid_members for sums in money.values())
        down = [name for name, state in self.services.states().items() if not state.up]
        return (
            f"{self.elapsed()} {self.stage}: {self.tally.placed:,} of {self.evening.orders:,} orders; "
            f"groups: {states[GroupState.FORMING]:,} forming, {states[GroupState.COMPLETED]:,} completed, "
            f"{states[GroupState.EXPIRED] + states[GroupState.CANCELLED]:,} expired"
            + (f"; unpaid members: {unpaid:,}" if unpaid else "")
            + f"; {amounts or 'no money yet'}"
            + (f"; down: {', '.join(down)}" if down else "")
        )

    def _head(self, *, repeats: bool) -> Text:
        text = Text()
        text.append(" A shop's evening ", style="bold reverse")
        text.append(f" {self.elapsed()} {self.stage}: ", style="bold")
        text.append(f"{self.tally.placed:,} of {self.evening.orders:,} orders", style="cyan")
        if repeats:
            text.append(f", {self.tally.duplicates:,} duplicate requests, {self.tally.retries:,} retries", style="dim")
        if self.tally.errors:
            text.append(f", {len(self.tally.errors)} unexpected errors", style="bold red")
        return text

    def _groups(self, signs: Glyphs, lines: int) -> RenderableType:
        """The fullest groups, and the number of the others, on this many lines."""
        forming = self.board.forming()
        sheet = Sheet("", GROUPS)
        room = max(1, lines - 2)
        shown = forming if len(forming) <= room else forming[: max(1, room - 1)]
        for group in shown:
            left_s = max(0.0, group.deadline_ms / 1000 - self.now_s())
            members = f"{len(group.confirmed)}/{group.terms.capacity if group.terms else 0}"
            name = self.board.title(group)
            sheet.rows.append((name, group.key[:6], bar(group, signs), members, price_now(group), f"{left_s:.0f} s"))
        if not forming:
            return Group(sheet, Text("no group is forming", style="dim"))
        if len(shown) == len(forming):
            return sheet
        return Group(sheet, Text(f"and {len(forming) - len(shown):,} more groups are forming", style="dim"))

    def _services(self, signs: Glyphs) -> Sheet:
        sheet = Sheet("", [Column("", right=False)] * 4)
        for name, state in self.services.states().items():
            lamp = Text(f"{signs.up} up", style="green") if state.up else Text(f"{signs.down} down", style="bold red")
            pid = Text(f"pid {state.pid}" if state.up else "", style="dim")
            sheet.rows.append((name, lamp, pid, f"restarted {state.restarts}×" if state.restarts else ""))
        return sheet

    def _services_line(self, signs: Glyphs) -> Text:
        text = Text()
        for name, state in self.services.states().items():
            text.append(f"{signs.up} " if state.up else f"{signs.down} ", style="green" if state.up else "bold red")
            text.append(name + ("" if state.up else " down"), style="" if state.up else "bold red")
            text.append(f" restarted {state.restarts}×  " if state.restarts else "  ")
        text.rstrip()
        return text

    def _incident(self) -> list[Text]:
        return [Text(printable(self.incident), style="bold yellow")] if self.incident else []

    def _money(self) -> Sheet:
        sheet = Sheet("", [Column("money", right=False), *money_columns.HOLDS])
        for currency, sums in self.board.money().items():
            sheet.rows.append((currency, *money_columns.holds(sums, currency)))
        return sheet

    def _counts(self) -> Text:
        states = self.board.states()
        unpaid = sum(sums.unpaid_members for sums in self.board.money().values())
        return Text.assemble(
            "groups: ",
            (f"{states[GroupState.FORMING]:,} forming", "yellow"),
            ", ",
            (f"{states[GroupState.COMPLETED]:,} completed", "green"),
            ", ",
            (f"{states[GroupState.EXPIRED] + states[GroupState.CANCELLED]:,} expired", "red"),
            f"\nsolo purchases: {len(self.board.solo()):,}; ",
            (f"unpaid members: {unpaid:,}", "red" if unpaid else ""),
        )

    def _news(self, lines: int) -> Text:
        """The last news, on exactly this many lines."""
        news = list(self.board.news)[-lines:]
        news += [""] * (lines - len(news))
        return Text("\n".join(news), overflow="ellipsis", no_wrap=True, style="dim")


def _height(console: Console, options: ConsoleOptions, content: RenderableType) -> int:
    return len(console.render_lines(content, options, pad=False))


def price_now(group: GroupFold) -> str:
    """The price of one piece if nobody else joins; a dash below the first tier."""
    if group.terms is None:
        return ""
    reached = [tier.unit_price_minor for tier in group.terms.tiers if tier.members <= len(group.confirmed)]
    return amount(reached[-1], group.terms.currency) if reached else money_columns.NOTHING
