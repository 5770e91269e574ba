"""Payouts: what the provider paid to the merchant's bank account, and what the log has of it. Pure.

The log has the share of each order in a payout. A provider whose payouts are not fed to payments has none there: then
there is nothing to compare, as with its fees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

#: Amounts in minor units, by payout and currency.
Payouts: TypeAlias = Mapping[tuple[str, str], int]


class Compared(NamedTuple):
    """One payout. An amount is None if that side does not have it."""

    payout: str
    currency: str
    ours: int | None
    theirs: int | None

    @property
    def equal(self) -> bool:
        """Whether both sides have the same amount."""
        return self.ours == self.theirs

    @property
    def what(self) -> str:
        """The difference."""
        there = "nothing" if self.theirs is None else f"{self.theirs} {self.currency}"
        here = "nothing" if self.ours is None else f"{self.ours} {self.currency}"
        return f"payout {self.payout}: {there} in the statement, {here} in the log"


def compare_payouts(ours: Payouts, theirs: Payouts) -> Iterator[Compared]:
    """Every payout of either side, in the currencies in which the log has payouts."""
    recorded = {currency for _, currency in ours}
    for name in sorted({*ours, *theirs}):
        payout, currency = name
        if currency in recorded:
            yield Compared(payout, currency, ours.get(name), theirs.get(name))
