"""The orders of one group: seats reserved and vacated, members confirmed, charged and released.

The part of GroupFold about single orders; decisions.py has the part about the group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, ClassVar

from groupbuy.groups.v1.decisions_pb2 import Terms

from ops.audit.chain import Chain
from ops.audit.findings import Findings, Invariant
from ops.audit.group.seats import ALLOWED, ENDS, Seat, SeatState


class GroupState(IntEnum):
    """The state of a group. The last three are final."""

    NONE = 0
    FORMING = 1
    COMPLETED = 2
    EXPIRED = 3
    CANCELLED = 4


class Membership:
    """The seats and members of a group, and their outcomes."""

    __slots__ = (
        "_at_ms",
        "_findings",
        "by_customer",
        "chain",
        "closed_ms",
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
        #: The number of seats that are reserved or confirmed.
        self.taken = 0
        self.by_customer: dict[str, int] = {}
        #: Orders of confirmed members, in the order of confirmation.
        self.confirmed: dict[str, None] = {}
        #: The orders of the GroupCompleted event.
        self.members: tuple[str, ...] = ()
        self.unit_price_minor = 0
        #: The version that completed the group; 0 before it.
        self.completed_version = 0
        self.settled = False
        #: The time of the decision that closed the group; 0 before it.
        self.closed_ms = 0
        self._findings = findings
        self._at_ms = 0

    def discounted_minor(self, seat: Seat) -> int:
        """The charge of a completed group's member: the frozen tier price, less the leader's discount."""
        discount = self.terms.leader_discount_minor if self.terms and seat.order == self.leader_order else 0
        return (self.unit_price_minor - discount) * seat.quantity

    def _violation(self, invariant: Invariant, what: str, order: str = "") -> None:
        self._findings.breach(invariant, self.key, order, what)

    def _seat(self, body: str, order: str) -> Seat:
        seat = self.seats.get(order)
        if seat is None:
            seat = self.seats[order] = Seat(order)
        if seat.state not in ALLOWED[body]:
            self._violation(Invariant.ONE_END_OF_ORDER, f"{body} after {seat.state.name}", order)
        return seat

    def _seat_reserved(self, event: Any) -> None:
        seat = self._seat("seat_reserved", event.order)
        self._vacate(seat)
        seat.reserve(event)
        self.taken += 1
        count = self.by_customer[seat.customer] = self.by_customer.get(seat.customer, 0) + 1
        terms = self.terms
        if terms is None or self.state is not GroupState.FORMING:
            self._violation(Invariant.SEATS, f"a seat in a group that is {self.state.name}", seat.order)
            return
        if self.taken > terms.capacity:
            self._violation(Invariant.SEATS, f"seat {self.taken} of {terms.capacity}", seat.order)
        if count > (terms.seats_per_customer or 1):
            self._violation(Invariant.SEATS, f"customer {seat.customer} has {count} seats", seat.order)
        if not terms.solo and not terms.tiers:
            self._violation(Invariant.RIGHT_AMOUNT, "a seat in a group without a price", seat.order)
            return
        price = terms.solo_price_minor if terms.solo else terms.tiers[0].unit_price_minor
        if seat.hold_minor != price * seat.quantity or seat.currency != terms.currency:
            self._violation(
                Invariant.RIGHT_AMOUNT,
                f"holds {seat.hold_minor} {seat.currency}, should hold {price * seat.quantity} {terms.currency}",
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
            self._violation(Invariant.SEATS, "waitlisted in a group without a waitlist", event.order)

    def _member_confirmed(self, event: Any) -> None:
        seat = self._seat("member_confirmed", event.order)
        if self.state is not GroupState.FORMING:
            self._violation(Invariant.ENDS_IN_TIME, f"confirmed in a group that is {self.state.name}", event.order)
        elif self._at_ms >= self.deadline_ms:
            self._violation(Invariant.ENDS_IN_TIME, "confirmed after the deadline", event.order)
        elif self._at_ms >= seat.reserved_until_ms:
            self._violation(Invariant.ENDS_IN_TIME, "confirmed after its reservation had lapsed", event.order)
        if not seat.state.seated:
            self.taken += 1
        seat.state, seat.hold = SeatState.CONFIRMED, event.hold
        self.confirmed[event.order] = None
        if event.members != len(self.confirmed):
            self._violation(
                Invariant.RIGHT_AMOUNT, f"counts {event.members} members, {len(self.confirmed)} are confirmed"
            )

    def _seat_released(self, event: Any) -> None:
        seat = self._seat("seat_released", event.order)
        if seat.to_settle_minor >= 0:
            self._violation(
                Invariant.ONE_END_OF_ORDER, "its seat is released after its settlement was requested", event.order
            )
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
            self._violation(
                Invariant.CAPTURE_AFTER_COMPLETION, "settlement requested, but it is in no completed group", event.order
            )
        if seat.to_settle_minor >= 0:
            self._violation(Invariant.ONE_CAPTURE, "settlement requested twice", event.order)
        seat.to_settle_minor = event.amount_minor
        wanted = (seat.hold, self.discounted_minor(seat), seat.currency)
        if (event.hold, event.amount_minor, event.currency) != wanted:
            self._violation(
                Invariant.RIGHT_AMOUNT,
                f"settlement of {event.amount_minor} {event.currency} of hold {event.hold} requested, "
                f"should be {wanted[1]} {wanted[2]} of {wanted[0]}",
                event.order,
            )

    def _release_requested(self, event: Any) -> None:
        seat = self.seats.get(event.order)
        if seat is None:
            # NO_SEAT: a payment for an order that never requested a seat.
            seat = self.seats[event.order] = Seat(event.order)
        if seat.release_requested:
            self._violation(Invariant.ONE_END_OF_ORDER, "release requested twice", event.order)
        # A declined order may be released: an earlier authorisation of its hold may arrive late.
        if seat.to_settle_minor >= 0 and seat.state is not SeatState.DECLINED:
            self._violation(
                Invariant.ONE_END_OF_ORDER, "release requested after its settlement was requested", event.order
            )
        seat.release_requested = True

    def _member_settled(self, event: Any) -> None:
        seat = self._seat("member_settled", event.order)
        if event.amount_minor != seat.to_settle_minor:
            self._violation(
                Invariant.RIGHT_AMOUNT, f"charged {event.amount_minor}, requested {seat.to_settle_minor}", event.order
            )
        seat.state, seat.settled_minor = SeatState.SETTLED, event.amount_minor

    def _member_declined(self, event: Any) -> None:
        seat = self._seat("member_declined", event.order)
        seat.state = SeatState.DECLINED

    def _member_released(self, event: Any) -> None:
        seat = self.seats.get(event.order) or Seat(event.order)
        if not seat.release_requested:
            self._violation(Invariant.ONE_END_OF_ORDER, "released without a request", event.order)
        seat.released = True

    def _nothing(self, event: Any) -> None:
        """A CancelRefused changes nothing."""

    #: The method of each kind of event about an order.
    HANDLERS: ClassVar[Mapping[str, Callable[[Membership, Any], None]]] = {
        "seat_reserved": _seat_reserved,
        "seat_refused": _seat_refused,
        "seat_waitlisted": _seat_waitlisted,
        "member_confirmed": _member_confirmed,
        "seat_released": _seat_released,
        "settlement_requested": _settlement_requested,
        "release_requested": _release_requested,
        "member_settled": _member_settled,
        "member_released": _member_released,
        "member_declined": _member_declined,
        "cancel_refused": _nothing,
    }
