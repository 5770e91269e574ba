"""The view of the running evening: live on a terminal, a plain line every two seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from chassis.telemetry.printable import printable
from ops.amounts import amount
from ops.audit.group.decisions import GroupFold
from ops.audit.group.membership import GroupState
from ops.demo.board import Board
from ops.demo.plan import Evening
from ops.demo.player import Tally

PLAIN_INTERVAL_S = 2.0
FRAMES_PER_SECOND = 5
BAR_CELLS = 20
#: Lines of the view besides the list of groups.
FRAME_LINES = 6


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
    started_s: float = field(default_factory=time.monotonic)
    _plain_at_s: float = 0.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's hook: the live view, within the height of the terminal."""
        side = Group(self._services(), self._money(), self._totals(), self._news())
        both = Table.grid(padding=(0, 1), expand=True)
        both.add_column(ratio=3)
        both.add_column(ratio=2)
        both.add_row(self._forming(max(5, options.size.height - FRAME_LINES)), side)
        yield self._head()
        yield both

    def print_plain(self, console: Console) -> None:
        """Prints one line, at most every PLAIN_INTERVAL_S seconds."""
        now = time.monotonic()
        if now - self._plain_at_s < PLAIN_INTERVAL_S:
            return
        self._plain_at_s = now
        states = self.board.states()
        money = "; ".join(
            f"{amount(m.open, c)} held, {amount(m.captured, c)} captured, {amount(m.released, c)} released"
            for c, m in self.board.money().items()
        )
        down = [name for name, state in self.services.states().items() if not state.up]
        console.print(
            f"{self._elapsed()} {self.stage}: {self.tally.placed} of {self.evening.orders} orders, "
            f"{states[GroupState.FORMING]} groups forming, {states[GroupState.COMPLETED]} completed, "
            f"{states[GroupState.EXPIRED]} expired; {money or 'no money yet'}"
            + (f"; down: {', '.join(down)}" if down else ""),
            highlight=False,
            soft_wrap=True,
        )

    def _elapsed(self) -> str:
        seconds = int(time.monotonic() - self.started_s)
        return f"{seconds // 60:02d}:{seconds % 60:02d}"

    def _head(self) -> Text:
        text = Text()
        text.append(" A shop's evening ", style="bold reverse")
        text.append(f"  {self._elapsed()}  {self.stage}  ", style="bold")
        text.append(f"{self.tally.placed:,} of {self.evening.orders:,} orders", style="cyan")
        text.append(f", {self.tally.duplicates:,} duplicates, {self.tally.retries:,} retries", style="dim")
        if self.tally.errors:
            text.append(f"  {len(self.tally.errors)} unexpected errors", style="bold red")
        return text

    def _forming(self, most: int) -> Panel:
        table = Table(box=None, expand=True, padding=(0, 1))
        for column in ("", "group", "seats", "members", "price now", "closes in"):
            table.add_column(column, justify="right" if column in {"members", "price now", "closes in"} else "left")
        forming = self.board.forming()
        now_ms = time.time() * 1000
        for group in forming[:most]:
            left_s = max(0.0, (group.deadline_ms - now_ms) / 1000)
            table.add_row(
                self.board.title(group),
                group.key[:6],
                bar(group),
                f"{len(group.confirmed)}/{group.terms.capacity if group.terms else 0}",
                price_now(group),
                f"{left_s:.0f} s",
            )
        return Panel(table, title=f"{len(forming)} groups forming", title_align="left", border_style="green")

    def _services(self) -> Panel:
        table = Table(box=None, show_header=False, padding=(0, 1))
        for name, state in self.services.states().items():
            lamp = Text("● up", style="green") if state.up else Text("● down", style="bold red")
            again = f"restarted {state.restarts}×" if state.restarts else ""
            table.add_row(name, lamp, Text(f"pid {state.pid}" if state.up else "", style="dim"), again)
        content: RenderableType = table
        if self.incident:
            content = Group(table, Text(printable(self.incident), style="bold yellow"))
        return Panel(content, title="services", title_align="left", border_style="blue")

    def _money(self) -> Panel:
        table = Table(box=None, padding=(0, 1), expand=True)
        for column in ("", "held now", "captured", "released"):
            table.add_column(column, justify="right" if column else "left")
        for currency, money in self.board.money().items():
            table.add_row(
                currency,
                Text(amount(money.open, currency), style="yellow"),
                Text(amount(money.captured, currency), style="green"),
                amount(money.released, currency),
            )
        return Panel(table, title="money", title_align="left", border_style="yellow")

    def _totals(self) -> Columns:
        states = self.board.states()
        return Columns(
            [
                Text(f"{states[GroupState.COMPLETED]:,} completed", style="green"),
                Text(f"{states[GroupState.EXPIRED]:,} expired", style="red"),
                Text(f"{self.board.tiers_reached:,} tiers reached", style="cyan"),
                Text(f"{self.tally.cancelled:,} cancelled", style="dim"),
            ],
            padding=(0, 2),
        )

    def _news(self) -> Panel:
        news = Text("\n".join(self.board.news), overflow="ellipsis", no_wrap=True)
        return Panel(news, title="news", title_align="left", border_style="magenta")


def bar(group: GroupFold) -> Text:
    """The seats of a group: members full, reservations half; a bar before each tier that is not reached yet."""
    text = Text()
    if group.terms is None:
        return text
    confirmed = len(group.confirmed)
    tiers = {tier.members for tier in group.terms.tiers}
    for seat in range(1, min(group.terms.capacity, BAR_CELLS) + 1):
        if seat <= confirmed:
            text.append("█", style="green")
        elif seat <= group.taken:
            text.append("▒", style="yellow")
        else:
            text.append("│" if seat in tiers else "·", style="cyan" if seat in tiers else "dim")
    return text


def price_now(group: GroupFold) -> str:
    """The price that the members pay if nobody else joins; a dash below the first tier."""
    if group.terms is None:
        return ""
    reached = [tier.unit_price_minor for tier in group.terms.tiers if tier.members <= len(group.confirmed)]
    return amount(reached[-1], group.terms.currency) if reached else "–"
