"""A group's ladder as a page shows it: its steps, its seats, and what the next step takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

#: Most seats that are drawn one by one.
MAX_DOTS = 24
#: Heights of the steps: the lowest price, and the price of buying alone.
_LOW, _HIGH = 3, 10


class Step(NamedTuple):
    """One price."""

    #: Members from which it applies; 1: buying alone.
    members: int
    price_minor: int
    #: won, next or later.
    state: str
    #: Whether it is today's price.
    now: bool
    #: 1 to 10, in proportion to the price.
    height: int


class Ladder(NamedTuple):
    """The ladder of a group with some members."""

    steps: list[Step]
    #: Members that the next step takes; 0: there is no further step.
    missing: int
    #: Price of the next step; of the last one if there is no further step.
    next_minor: int
    #: Today's price: that of the step reached, or of the first one before any is.
    price_minor: int
    reached: bool
    #: `paid`, `paying` or `free` for each seat; empty if there are too many to draw.
    seats: list[str]


def ladder_of(
    tiers: Sequence[tuple[int, int]], solo_minor: int, capacity: int, confirmed: int, taken: int | None = None
) -> Ladder:
    """The ladder. `tiers` are members and price, ascending by members; `taken` includes seats that are not paid yet."""
    lowest = min(price for _, price in tiers)
    span = max(1, solo_minor - lowest)
    reached = [number for number, (members, _) in enumerate(tiers) if members <= confirmed]
    at = reached[-1] if reached else -1
    steps = [Step(1, solo_minor, "won" if at >= 0 else "later", now=False, height=_HIGH)]
    for number, (members, price) in enumerate(tiers):
        state = "won" if number <= at else "next" if number == at + 1 else "later"
        height = _LOW + round((_HIGH - _LOW) * (price - lowest) / span)
        steps.append(Step(members, price, state, number == at, height))
    following = tiers[at + 1] if at + 1 < len(tiers) else None
    seats = []
    if capacity <= MAX_DOTS:
        paying = max(0, (confirmed if taken is None else taken) - confirmed)
        seats = ["paid"] * min(confirmed, capacity) + ["paying"] * min(paying, max(0, capacity - confirmed))
        seats += ["free"] * (capacity - len(seats))
    return Ladder(
        steps,
        following[0] - confirmed if following else 0,
        following[1] if following else tiers[-1][1],
        tiers[max(at, 0)][1],
        at >= 0,
        seats,
    )
