"""The columns of amounts, with the same headings in every table of the demo, and the legend that defines them."""

from __future__ import annotations

from ops.demo.sums import Sums
from ops.terminal.amounts import amount
from ops.terminal.sheet import Column

#: Full price - discount - unpaid = net.
PRICE = (Column("full price"), Column("- discount"), Column("- unpaid"), Column("= net"))
#: Held = captured + released + still held; captured - refunded = net.
HOLDS = (Column("held"), Column("captured"), Column("released"), Column("still held"), Column("refunded"))
#: An amount of zero.
NOTHING = "-"

LEGEND = (
    ("full price", "tier price × pieces of the group's members"),
    ("discount", "the leader's discount"),
    ("unpaid", "members who could not be charged: the capture was declined"),
    ("net", "the amount paid in the end: captured - refunded"),
    ("held", "all holds: captured + released + still held"),
    ("refunded", "a wallet is captured at once, and refunded above the final price"),
    ("solo", "a purchase without a group, at the solo price; counted as solo alone"),
)


def price(sums: Sums, currency: str) -> tuple[str, ...]:
    """The cells of PRICE."""
    return _cells((sums.full_price, sums.discount, sums.unpaid, sums.net), currency)


def holds(sums: Sums, currency: str) -> tuple[str, ...]:
    """The cells of HOLDS."""
    return _cells((sums.held, sums.captured, sums.released, sums.still_held, sums.refunded), currency)


def _cells(minors: tuple[int, ...], currency: str) -> tuple[str, ...]:
    return tuple(amount(minor, currency) if minor else NOTHING for minor in minors)
