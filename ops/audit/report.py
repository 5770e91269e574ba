"""The result of an audit: figures and findings, as tables for people and as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.audit.findings import TITLES, Findings, Invariant
from ops.audit.group.membership import GroupState
from ops.audit.group.seats import SeatState
from ops.audit.money.statement import Totals
from ops.terminal.amounts import amount
from ops.terminal.rich_console import labelled
from ops.terminal.sheet import Column, Sheet

MAX_SHOWN = 50
#: Invariants that another command checks.
_ELSEWHERE = {Invariant.REPLAY: "see `groupbuy-ops replay`"}


@dataclass(slots=True)
class Report:
    """The figures and findings of an audit. Amounts are in minor units by currency."""

    findings: Findings
    #: Whether pending work counted as a violation.
    settled: bool
    #: Whether the provider's statement was compared.
    books_compared: bool
    groups: Counter[GroupState] = field(default_factory=Counter)
    orders: Counter[SeatState] = field(default_factory=Counter)
    #: The number of acknowledged orders that the caller passed for comparison.
    acknowledged: int = 0
    #: Distinct orders in the log of facts, and duplicate records of them.
    placed: int = 0
    repeats: int = 0
    holds: int = 0
    open_holds: int = 0
    money: dict[str, Totals] = field(default_factory=dict)
    #: Duplicate records of decisions, all byte-identical unless invariant 14 is violated.
    duplicates: int = 0
    dead_letters: int = 0
    records: int = 0
    seconds: float = 0.0
    #: Roots of the ledger that were compared with a file; None without a file.
    roots: int | None = None

    @property
    def clean(self) -> bool:
        """Whether every invariant holds."""
        return self.findings.violation_count == 0

    @property
    def needs_operator(self) -> bool:
        """Whether an alarm is still open."""
        return bool(self.findings.open_alarms)

    @property
    def books_equal(self) -> bool | None:
        """Whether the provider's statement equals our books; None if they were not compared."""
        if not self.books_compared:
            return None
        return not self.findings.by_invariant.get(Invariant.BOOKS_EQUAL)

    def figures(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return {
            "groups": self.groups.total(),
            "orders": self.placed,
            "violations": self.findings.violation_count,
            "books_equal": self.books_equal,
            "holds": self.holds,
            "open_holds": self.open_holds,
            "held_minor": {currency: totals.held for currency, totals in sorted(self.money.items())},
            "captured_minor": {currency: totals.captured for currency, totals in sorted(self.money.items())},
            "released_minor": {currency: totals.released for currency, totals in sorted(self.money.items())},
            "refunded_minor": {currency: totals.refunded for currency, totals in sorted(self.money.items())},
            "duplicates": self.duplicates,
            "dead_letters": self.dead_letters,
            "under_way": self.findings.pending_count,
            "alarms": len(self.findings.alarms),
            "open_alarms": len(self.findings.open_alarms),
            "records": self.records,
            "roots": self.roots,
            "seconds": round(self.seconds, 2),
        }

    def json(self) -> str:
        """The figures as one line of JSON."""
        return json.dumps(self.figures())

    def items(self) -> Iterator[dict[str, Any]]:
        """Each violation, alarm and piece of pending work that was kept, for JSON."""
        for one in self.findings.violations:
            about = {"invariant": int(one.invariant), "group": one.group, "order": one.order}
            yield {"violation": one.what, **about}
        yield from ({"alarm": one} for one in self.findings.alarms)
        yield from ({"open_alarm": one} for one in self.findings.open_alarms)
        yield from ({"pending": one} for one in self.findings.pending)

    def print(self, console: Console) -> None:
        """Prints the figures and findings as tables."""
        console.print(self._figures())
        console.print(self._money())
        console.print(self._invariants())
        for violation in self.findings.violations[:MAX_SHOWN]:
            console.print(labelled("violation", "bold red", violation))
        if (more := self.findings.violation_count - MAX_SHOWN) > 0:
            console.print(Text(f"and {more} more", style="red"))
        for alarm in self.findings.alarms[:MAX_SHOWN]:
            console.print(labelled("alarm", "yellow", alarm))
        for alarm in self.findings.open_alarms[:MAX_SHOWN]:
            console.print(labelled("open alarm", "bold yellow", alarm))
        for one in self.findings.pending[:10]:
            console.print(labelled("pending", "dim", one))
        if self.findings.pending_count > 10:
            console.print(Text(f"{self.findings.pending_count} items are pending", style="dim"))

    def _figures(self) -> Table:
        table = Table(title="Audit of all topics", title_justify="left", show_header=False, box=None)
        table.add_column(style="dim")
        table.add_column()
        table.add_row("records", f"{self.records:,} in {self.seconds:.1f} s")
        table.add_row("groups", _counts(self.groups.total(), {s.name: self.groups[s] for s in GroupState}))
        table.add_row("orders", _counts(self.placed, {s.name: self.orders[s] for s in SeatState}))
        table.add_row("duplicates", f"{self.repeats:,} order records, {self.duplicates:,} decisions (byte-identical)")
        table.add_row("dead letters", f"{self.dead_letters:,}")
        if self.roots is not None:
            table.add_row("ledger", f"{self.roots:,} roots compared with the exported ones")
        return table

    def _money(self) -> Sheet:
        titles = ("held", "captured", "released", "still held", "refunded")
        sheet = Sheet("Money", [Column("currency", right=False), *map(Column, titles)])
        for currency, totals in sorted(self.money.items()):
            sums = (totals.held, totals.captured, totals.released, totals.open, totals.refunded)
            sheet.rows.append((currency, *(amount(minor, currency) for minor in sums)))
        return sheet

    def _invariants(self) -> Table:
        table = Table(title="Invariants", title_justify="left")
        table.add_column("", justify="right")
        table.add_column("")
        table.add_column("", justify="right")
        for invariant, title in TITLES.items():
            count = self.findings.by_invariant.get(invariant, 0)
            verdict = Text(f"{count} violations", style="bold red") if count else Text("holds", style="green")
            if invariant in _ELSEWHERE:
                verdict = Text(_ELSEWHERE[invariant], style="dim")
            if invariant is Invariant.BOOKS_EQUAL and not self.books_compared:
                verdict = Text("not compared", style="yellow")
            if invariant is Invariant.ACKNOWLEDGED_IS_LOGGED and not self.acknowledged:
                verdict = Text("cannot be checked from topics", style="dim")
            table.add_row(str(int(invariant)), title, verdict)
        return table


def _counts(total: int, parts: dict[str, int]) -> str:
    some = ", ".join(f"{count:,} {name.lower()}" for name, count in parts.items() if count)
    return f"{total:,}" + (f" ({some})" if some else "")
