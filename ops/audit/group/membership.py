"""The orders of one group, refolded: seats taken and left, members confirmed, charged, let go.

The half of GroupFold that is about single orders; groups.py has the other half. Must never import a service.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import Terms

from ops.audit.chain import Chain
from ops.audit.findings import Findings, Invariant
from ops.audit.group.seats import ALLOWED, ENDS, Seat, SeatState


class GroupState(IntEnum):
    """Where a group stands; the last three are ends."""

    NONE = 0
    FORMING = 1
    COMPLETED = 2
    EXPIRED = 3
    CANCELLED = 4


class Membership:
    """Who has a seat in a group, who is a member, and what becomes of each."""

    __slots__ = (
        "_at_ms",
        "_findings",
        "by_customer",
        "chain",
        "completed_version",
        "confirmed",
        "deadline_ms",
        "key",
        "leader_order",
        "members",
        "seats",
        "settled",
        "state",
        "taken",
        "terms",
        "unit_price_minor",
    )

    def __init__(self, key: str, findings: Findings) -> None:
        self.key = key
        self.chain = Chain()
        self.state = GroupState.NONE
        self.terms: Terms | None = None
        self.deadline_ms = 0
        self.leader_order = ""
        self.seats: dict[str, Seat] = {}
        #: Seats reserved or confirmed, now.
        self.taken = 0
        self.by_customer: dict[str, int] = {}
        #: Orders of confirmed members, in the order of their confirmation.
        self.confirmed: dict[str, None] = {}
        #: Orders named by GroupCompleted.
        self.members: tuple[str, ...] = ()
        self.unit_price_minor = 0
        #: Version that completed it; 0: none did.
        self.completed_version = 0
        self.settled = False
        self._findings = findings
        self._at_ms = 0

    def discounted_minor(self, seat: Seat) -> int:
        """What a completed group's member owes: the frozen tier price, less the leader's discount."""
        discount = self.terms.leader_discount_minor if self.terms and seat.order == self.leader_order else 0
        return (self.unit_price_minor - discount) * seat.quantity

    def _complain(self, invariant: Invariant, what: str, order: str = "") -> None:
        self._findings.breach(invariant, self.key, order, what)

    def _seat(self, body: str, order: str) -> Seat:
        seat = self.seats.get(order)
        if seat is None:
            seat = self.seats[order] = Seat(order)
        if seat.state not in ALLOWED[body]:
            self._complain(Invariant.ONE_END_OF_ORDER, f"{body} after {seat.state.name}", order)
        return seat

    def _seat_reserved(self, event: Any) -> None:
        seat = self._seat("seat_reserved", event.order)
        self._vacate(seat)
        seat.reserve(event)
        self.taken += 1
        count = self.by_customer[seat.customer] = self.by_customer.get(seat.customer, 0) + 1
        terms = self.terms
        if terms is None or self.state is not GroupState.FORMING:
            self._complain(Invariant.SEATS, f"a seat in a group that is {self.state.name}", seat.order)
            return
        if self.taken > terms.capacity:
            self._complain(Invariant.SEATS, f"seat {self.taken} of {terms.capacity}", seat.order)
        if count > (terms.seats_per_customer or 1):
            self._complain(Invariant.SEATS, f"customer {seat.customer} has {count} seats", seat.order)
        if not terms.solo and not terms.tiers:
            self._complain(Invariant.RIGHT_AMOUNT, "a seat in a group without a price", seat.order)
            return
        price = terms.solo_price_minor if terms.solo else terms.tiers[0].unit_price_minor
        if seat.hold_minor != price * seat.quantity or seat.currency != terms.currency:
            self._complain(
                Invariant.RIGHT_AMOUNT,
                f"asks to hold {seat.hold_minor} {seat.currency}, should be {price * seat.quantity} {terms.currency}",
                seat.order,
            )

    def _seat_refused(self, event: Any) -> None:
        seat = self._seat("seat_refused", event.order)
        self._vacate(seat)
        seat.customer, seat.request_sha256 = event.customer, event.request_sha256
        seat.state = SeatState.REFUSED

    def _seat_waitlisted(self, event: Any) -> None:
        seat = self._seat("seat_waitlisted", event.order)
        self._vacate(seat)
        seat.customer, seat.quantity, seat.request_sha256 = event.customer, event.quantity, event.request_sha256
        seat.state = SeatState.WAITLISTED
        if self.terms is not None and not self.terms.waitlist:
            self._complain(Invariant.SEATS, "waits in a group that has no waitlist", event.order)

    def _member_confirmed(self, event: Any) -> None:
        seat = self._seat("member_confirmed", event.order)
        if self.state is not GroupState.FORMING:
            self._complain(Invariant.ENDS_IN_TIME, f"confirmed in a group that is {self.state.name}", event.order)
        elif self._at_ms >= self.deadline_ms:
            self._complain(Invariant.ENDS_IN_TIME, "confirmed after the deadline", event.order)
        elif self._at_ms >= seat.reserved_until_ms:
            self._complain(Invariant.ENDS_IN_TIME, "confirmed after its reservation had lapsed", event.order)
        if not seat.state.seated:
            self.taken += 1
        seat.state, seat.hold = SeatState.CONFIRMED, event.hold
        self.confirmed[event.order] = None
        if event.members != len(self.confirmed):
            self._complain(
                Invariant.RIGHT_AMOUNT, f"counts {event.members} members, {len(self.confirmed)} are confirmed"
            )

    def _seat_released(self, event: Any) -> None:
        seat = self._seat("seat_released", event.order)
        if seat.to_settle_minor >= 0:
            self._complain(Invariant.ONE_END_OF_ORDER, "loses its seat though it is to be charged", event.order)
        self._vacate(seat)
        seat.state = ENDS.get(event.reason, SeatState.RELEASED)

    def _vacate(self, seat: Seat) -> None:
        if seat.state.seated:
            self.taken -= 1
            self.by_customer[seat.customer] -= 1
            self.confirmed.pop(seat.order, None)

    def _settlement_requested(self, event: Any) -> None:
        seat = self.seats.get(event.order) or Seat(event.order)
        if event.order not in self.members:
            self._complain(
                Invariant.CAPTURE_AFTER_COMPLETION, "to be charged, but not of a completed group", event.order
            )
        if seat.to_settle_minor >= 0:
            self._complain(Invariant.ONE_CAPTURE, "to be charged twice", event.order)
        seat.to_settle_minor = event.amount_minor
        wanted = (seat.hold, self.discounted_minor(seat), seat.currency)
        if (event.hold, event.amount_minor, event.currency) != wanted:
            self._complain(
                Invariant.RIGHT_AMOUNT,
                f"to be charged {event.amount_minor} {event.currency} of hold {event.hold}, "
                f"should be {wanted[1]} {wanted[2]} of {wanted[0]}",
                event.order,
            )

    def _release_requested(self, event: Any) -> None:
        seat = self.seats.get(event.order)
        if seat is None:
            # Money for an order that never asked for a seat: NO_SEAT.
            seat = self.seats[event.order] = Seat(event.order)
        if seat.release_requested:
            self._complain(Invariant.ONE_END_OF_ORDER, "to be let go twice", event.order)
        # One that could not be charged may be let go: an old word of its hold may come late.
        if seat.to_settle_minor >= 0 and seat.state is not SeatState.DECLINED:
            self._complain(Invariant.ONE_END_OF_ORDER, "to be let go though it is to be charged", event.order)
        seat.release_requested = True

    def _member_settled(self, event: Any) -> None:
        seat = self._seat("member_settled", event.order)
        if event.amount_minor != seat.to_settle_minor:
            self._complain(
                Invariant.RIGHT_AMOUNT, f"charged {event.amount_minor}, asked for {seat.to_settle_minor}", event.order
            )
        seat.state, seat.settled_minor = SeatState.SETTLED, event.amount_minor

    def _member_failed(self, event: Any) -> None:
        seat = self._seat("member_failed", event.order)
        seat.state = SeatState.DECLINED

    def _member_released(self, event: Any) -> None:
        seat = self.seats.get(event.order) or Seat(event.order)
        if not seat.release_requested:
            self._complain(Invariant.ONE_END_OF_ORDER, "let go without having been asked to", event.order)
        seat.money_back = True

    def _nothing(self, event: Any) -> None:
        """A CancelRefused changes nothing."""
