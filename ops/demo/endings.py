"""The one final state of each order, as the demo counts it."""

from __future__ import annotations

from enum import Enum

from ops.audit.group.decisions import GroupFold
from ops.audit.group.membership import GroupState
from ops.audit.group.seats import Seat, SeatState
from ops.demo.sums import unpaid


class Ending(Enum):
    """The final state of an order. The value is its label."""

    CHARGED = "charged as a member of a group"
    CHARGED_SOLO = "charged as a solo purchase"
    UNPAID = "unpaid: the provider declined the capture"
    DECLINED = "not a member: the provider declined the hold"
    LAPSED = "not a member: the hold took too long"
    CANCELLED = "cancelled by the shopper, released in full"
    RELEASED = "released in full: the group did not complete"
    LATE = "released in full: the group completed before its hold"
    WAITLISTED = "waitlisted, and no seat became free"
    REFUSED = "refused: group full or closed, or a second order"
    OPEN = "not final"


_BY_STATE = {
    SeatState.REFUSED: Ending.REFUSED,
    SeatState.LAPSED: Ending.LAPSED,
    SeatState.CANCELLED: Ending.CANCELLED,
}


def ending(group: GroupFold, seat: Seat) -> Ending:
    """The final state of an order."""
    solo = group.terms is not None and group.terms.solo
    if seat.state is SeatState.SETTLED:
        return Ending.CHARGED_SOLO if solo else Ending.CHARGED
    if seat.state is SeatState.DECLINED:
        return Ending.UNPAID if unpaid(seat) else Ending.DECLINED
    if seat.state is SeatState.RELEASED:
        if group.state is not GroupState.COMPLETED:
            return Ending.RELEASED
        # A waitlisted order never had a seat, and so no hold was requested.
        return Ending.LATE if seat.hold_minor else Ending.WAITLISTED
    return _BY_STATE.get(seat.state, Ending.OPEN)
