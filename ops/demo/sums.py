"""Sums of the evening, in minor units of one currency.

Two equations hold for closed groups whose payments are complete:

    full price - discount - unpaid = net
    captured - refunded            = net

The left side of the first one is computed from the groups' decisions, and `net` from the payments' decisions. At any
time held = captured + released + still held.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from ops.audit.group.decisions import GroupFold
from ops.audit.group.membership import GroupState
from ops.audit.group.seats import Seat, SeatState
from ops.audit.money.group_payments import GroupPaymentsFold
from ops.audit.money.holds import Payment


@dataclass(slots=True)
class Sums:
    """Counts and amounts, which can be added."""

    #: Members of completed groups, charged or not, and their pieces.
    members: int = 0
    pieces: int = 0
    #: Members who could not be charged: the provider declined the capture.
    unpaid_members: int = 0
    #: Price x pieces of all members of completed groups.
    full_price: int = 0
    #: The leaders' discounts, also of a leader who could not be charged.
    discount: int = 0
    #: The price of the members who could not be charged, after the discount.
    unpaid: int = 0
    #: All holds. A wallet's payment is held and captured at once.
    held: int = 0
    captured: int = 0
    released: int = 0
    refunded: int = 0

    @property
    def net(self) -> int:
        """The amount that the shoppers pay in the end."""
        return self.captured - self.refunded

    @property
    def still_held(self) -> int:
        """The amount that is neither captured nor released."""
        return self.held - self.captured - self.released

    def add(self, other: Sums) -> None:
        """Adds the sums of another group or order of the same currency."""
        for one in fields(Sums):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


def of_group(group: GroupFold, payments: GroupPaymentsFold | None) -> Sums:
    """The sums of one group, with all its orders."""
    sums = Sums()
    of_order = payments.payments if payments is not None else {}
    for seat in group.seats.values():
        sums.add(of_seat(group, seat, None))
    for payment in of_order.values():
        _add_payment(sums, payment)
    return sums


def of_seat(group: GroupFold, seat: Seat, payment: Payment | None) -> Sums:
    """The sums of one order."""
    sums = Sums()
    if group.state is GroupState.COMPLETED and seat.order in group.members:
        due = group.discounted_minor(seat)
        sums.members, sums.pieces = 1, seat.quantity
        sums.full_price = group.unit_price_minor * seat.quantity
        sums.discount = sums.full_price - due
        if unpaid(seat):
            sums.unpaid_members, sums.unpaid = 1, due
    if payment is not None:
        _add_payment(sums, payment)
    return sums


def unpaid(seat: Seat) -> bool:
    """Whether a member of a completed group could not be charged."""
    return seat.state is SeatState.DECLINED and seat.to_settle_minor >= 0


def _add_payment(sums: Sums, payment: Payment) -> None:
    for hold in payment.holds.values():
        sums.held += hold.held
        sums.captured += hold.captured
        sums.released += hold.released
        sums.refunded += hold.refunded
