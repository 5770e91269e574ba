"""The loss of a merchant because captures of a completed group failed and the price of the others stayed.

The audit's own copy of the rule; the groups service and `Group.kept_price_cost_minor` have another one.
"""

from __future__ import annotations

from ops.audit.group.membership import GroupState, Membership
from ops.audit.group.seats import SeatState


def kept_price_cost(group: Membership) -> int:
    """The cost in minor units of the group's currency; 0 while a capture is pending.

    It is the difference to the price of the tier that the charged members reach, or of the first tier if they reach
    none, for the pieces that they bought.
    """
    terms = group.terms
    if group.state is not GroupState.COMPLETED or terms is None or not terms.tiers:
        return 0
    seats = [group.seats[order] for order in group.members if order in group.seats]
    charged = [seat for seat in seats if seat.state is SeatState.SETTLED]
    if len(seats) < len(group.members) or not all(seat.state.final for seat in seats) or len(charged) == len(seats):
        return 0
    reached = [tier for tier in terms.tiers if tier.members <= len(charged)]
    price_minor = (reached[-1] if reached else terms.tiers[0]).unit_price_minor
    return max(price_minor - group.unit_price_minor, 0) * sum(seat.quantity for seat in charged)
