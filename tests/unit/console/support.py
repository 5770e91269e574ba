"""Cards, reports and groups for the tests of the console."""

from __future__ import annotations

from typing import Any

from groupbuy.groups.v1.groups_pb2 import Group, GroupState

from console.live.reports import Card, Report
from ops.watch.worker import Progress

KEY = "5d7c9f3e-0000-4000-8000-00000000000{}"
TIERS = ((2, 8_900), (5, 7_900))
NOW_MS = 1_800_000_000_000


def card(number: int = 1, **fields: Any) -> Card:
    """A forming group of a mug with the ladder 2 → 8900, 5 → 7900."""
    known: dict[str, Any] = {
        "key": KEY.format(number),
        "campaign": "mug-1",
        "product": "mug",
        "currency": "CNY",
        "solo_price_minor": 9_900,
        "tiers": TIERS,
        "capacity": 5,
        "confirmed": 1,
        "taken": 1,
        "opened_ms": NOW_MS,
        "deadline_ms": NOW_MS + 60_000 * number,
        "version": 1,
    }
    return Card(**(known | fields))


def report(*cards: Card, **fields: Any) -> Report:
    """A report about some groups."""
    touched = fields.pop("touched", [one.key for one in cards])
    return Report(Progress(0, 1, 0, 0, None), cards=list(cards), touched=touched, **fields)


def group(members: int = 1, state: GroupState.ValueType = GroupState.GROUP_STATE_FORMING, **fields: Any) -> Group:
    """A group as the groups service answers it."""
    made = Group(
        name=f"groups/{KEY.format(1)}",
        campaign="campaigns/mug-1",
        state=state,
        confirmed_members=members,
        seats_left=5 - members,
        version=members,
        **fields,
    )
    made.terms.product, made.terms.currency, made.terms.capacity = "mug", "CNY", 5
    made.terms.solo_price_minor = 9_900
    for count, price in TIERS:
        made.terms.tiers.add(members=count, unit_price_minor=price)
    made.deadline_time.FromMilliseconds(NOW_MS)
    for number in range(members):
        made.members.add(order=f"groups/x/orders/{number}", customer=f"secret-customer-{number}")
    return made
