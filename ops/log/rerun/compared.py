"""Actual and simulated outcomes side by side: the table and the figures of `what-if`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from ops.log.rerun.expected_cost import expected_cost_of_a_piece
from ops.log.rerun.simulated import Actual, Outcome, Simulated
from ops.terminal.amounts import amount
from ops.terminal.output import Output

_ROWS = (
    ("groups opened", "opened"),
    ("groups completed", "completed"),
    ("groups expired", "expired"),
    ("groups cancelled", "cancelled"),
    ("orders refused", "refused"),
    ("members charged", "settled"),
    ("captures declined", "declined"),
    ("members released", "released"),
)
#: Rows of a simulation with stock items and allowances.
_PIECE_ROWS = (("pieces charged", "pieces"), ("refused: sold out", "sold_out"), ("refused: limit", "over_limit"))


@dataclass(slots=True)
class Compared:
    """Actual and simulated outcomes."""

    was: Outcome = field(default_factory=Outcome)
    would_be: Outcome = field(default_factory=Outcome)
    groups: int = 0
    #: Groups with another final state or another captured sum.
    different: int = 0
    #: Orders that are assumed to pay.
    assumed: int = 0
    #: Groups whose first input is no longer in the inbox.
    left_out: int = 0
    #: Pieces that nobody would have bought; None without stock items.
    free: int | None = None
    #: The share of captures that fail, 0 to 1; None: expect nothing.
    failed_captures: float | None = None
    #: The cost of kept prices to expect, in minor units by currency.
    expected_was: dict[str, float] = field(default_factory=dict)
    expected_would_be: dict[str, float] = field(default_factory=dict)

    def compare(self, actual: Actual, simulated: Simulated) -> None:
        """Adds one group."""
        self.groups += 1
        self.different += simulated.outcome != actual.outcome
        self.assumed += simulated.assumed
        self.was.add(actual.outcome)
        self.would_be.add(simulated.outcome)
        self.expect(actual.outcome, simulated.outcome)

    def expect(self, was: Outcome, would_be: Outcome) -> None:
        """Adds the expected costs of one group, if a share of failed captures is given."""
        if self.failed_captures is not None:
            _expect(self.expected_was, was, self.failed_captures)
            _expect(self.expected_would_be, would_be, self.failed_captures)


def _expect(costs: dict[str, float], outcome: Outcome, failed_captures: float) -> None:
    """Adds the expected cost of one group."""
    terms = outcome.terms
    if terms is not None and outcome.members:
        each = expected_cost_of_a_piece(terms, outcome.unit_price_minor, outcome.members, failed_captures)
        costs[terms.currency] = costs.get(terms.currency, 0.0) + each * outcome.members_pieces


def figures(compared: Compared) -> dict[str, Any]:
    """The figures as JSON."""
    found: dict[str, Any] = {
        "groups": compared.groups,
        "different": compared.different,
        "assumed_to_pay": compared.assumed,
        "left_out": compared.left_out,
        "was": _counts(compared.was),
        "would_be": _counts(compared.would_be),
    }
    if compared.free is not None:
        found["free"] = compared.free
    if compared.failed_captures is not None:
        found["failed_captures"] = compared.failed_captures
        for name, costs in (("was", compared.expected_was), ("would_be", compared.expected_would_be)):
            found[name]["expected_kept_price_cost_minor"] = {
                currency: round(cost) for currency, cost in sorted(costs.items())
            }
    return found


def _rows(compared: Compared) -> tuple[tuple[str, str], ...]:
    return _ROWS if compared.free is None else _ROWS + _PIECE_ROWS


def _counts(outcome: Outcome) -> dict[str, Any]:
    figures: dict[str, Any] = {name: getattr(outcome, name) for _, name in _ROWS + _PIECE_ROWS}
    sums = {"captured_minor": outcome.captured, "kept_price_cost_minor": outcome.kept_price_cost}
    return figures | {name: dict(sorted(amounts.items())) for name, amounts in sums.items()}


def show(out: Output, compared: Compared) -> None:
    """Prints the table."""
    table = Table(title=f"What if, over {compared.groups:,} groups", title_justify="left")
    for column in ("", "was", "would be", "difference"):
        table.add_column(column, justify="right" if column else "left")
    was, would_be = compared.was, compared.would_be
    for title, name in _rows(compared):
        before, after = getattr(was, name), getattr(would_be, name)
        table.add_row(title, f"{before:,}", f"{after:,}", f"{after - before:+,}" if after != before else "")
    sums: list[tuple[str, Mapping[str, float], Mapping[str, float]]] = [
        ("captured", was.captured, would_be.captured),
        ("cost of declined captures", was.kept_price_cost, would_be.kept_price_cost),
    ]
    if compared.failed_captures is not None:
        title = f"expected cost if {compared.failed_captures:.2%} of the captures fail"
        sums.append((title, compared.expected_was, compared.expected_would_be))
    for title, of_was, of_would_be in sums:
        for currency in sorted({*of_was, *of_would_be}):
            before, after = round(of_was.get(currency, 0)), round(of_would_be.get(currency, 0))
            difference = ("+" if after > before else "") + amount(after - before, currency) if after != before else ""
            table.add_row(f"{title}, {currency}", amount(before, currency), amount(after, currency), difference)
    out.show(table)
    out.line(f"{compared.different:,} groups would have had a different outcome.")
    if compared.free is not None:
        out.line(f"{compared.free:,} pieces would have stayed free.")
    if compared.assumed:
        out.line(f"{compared.assumed:,} refused orders get a seat and are assumed to pay.")
    if compared.left_out:
        out.line(f"{compared.left_out:,} groups are omitted: their first inputs are gone.")
