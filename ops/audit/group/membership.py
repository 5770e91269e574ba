"""The orders of one group: seats reserved and vacated, members confirmed, charged and released.

The part of GroupFold about single orders; decisions.py has the part about the group.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import IntEnum
from typing import Any, ClassVar

from groupbuy.groups.v1 import decisions_pb2 as pb

from ops.audit.chain import Chain
from ops.audit.findings import Findings, Invariant
from ops.audit.group.inputs import GroupInputs
from ops.audit.group.pieces import Supply
from ops.audit.group.seats import ALLOWED, ENDS, Seat, SeatState
from ops.audit.group.terms import FrozenTerms

DAY_MS = 86_400_000
#: Orders that may wait in one group.
MAX_WAITLIST = 2_000


class GroupState(IntEnum):
    """The state of a group. The last three are final."""

    NONE = 0
    FORMING = 1
    COMPLETED = 2
    EXPIRED = 3
    CANCELLED = 4


#: Reason of a refusal or of a release -> the only state of the group in which it is true.
_REFUSED_IN: Mapping[int, GroupState] = {
    pb.REFUSAL_REASON_GROUP_COMPLETED: GroupState.COMPLETED,
    pb.REFUSAL_REASON_GROUP_EXPIRED: GroupState.EXPIRED,
    pb.REFUSAL_REASON_GROUP_CANCELLED: GroupState.CANCELLED,
}
#: Reasons of a refusal after the rules failed on the order.
_REFUSED_BY_FAULT = frozenset({pb.REFUSAL_REASON_GROUP_CANCELLED, pb.REFUSAL_REASON_UNREADABLE})
_RELEASED_IN: Mapping[int, GroupState] = {
    pb.RELEASE_REASON_GROUP_COMPLETED: GroupState.COMPLETED,
    pb.RELEASE_REASON_GROUP_EXPIRED: GroupState.EXPIRED,
    pb.RELEASE_REASON_GROUP_CANCELLED: GroupState.CANCELLED,
    pb.RELEASE_REASON_FAULTED: GroupState.CANCELLED,
}


class Membership:
    """The seats and members of a group, and their outcomes."""

    __slots__ = (
        "_at_ms", "_cause", "_events", "_findings", "_free", "_promoted", "_to_return", "by_customer", "chain",
        "closed_ms", "completed_version", "confirmed", "deadline_ms", "faulted", "inputs", "key", "leader_order",
        "members", "owed", "owed_ever", "owed_version", "reserved", "seats", "settled", "state", "supply", "terms",
        "tiers_reached", "unit_price_minor", "waiting",
    )  # fmt: skip

    def __init__(self, key: str, findings: Findings) -> None:
        self.key = key
        self.chain = Chain()
        self.state = GroupState.NONE
        self.terms: FrozenTerms | None = None
        self.deadline_ms = 0
        self.leader_order = ""
        self.seats: dict[str, Seat] = {}
        #: Reserved and waiting orders, in the order of their events.
        self.reserved: dict[str, None] = {}
        self.waiting: dict[str, None] = {}
        #: The number of reserved, confirmed and waiting orders.
        self.by_customer: dict[str, int] = {}
        #: Orders of confirmed members, in the order of confirmation.
        self.confirmed: dict[str, None] = {}
        #: The number of tiers that were announced.
        self.tiers_reached = 0
        #: The orders of the GroupCompleted event.
        self.members: tuple[str, ...] = ()
        self.unit_price_minor = 0
        #: The version that completed the group; 0 before it.
        self.completed_version = 0
        self.settled = False
        #: The time of the decision that closed the group; 0 before it.
        self.closed_ms = 0
        #: The error of the rules, if they failed.
        self.faulted = ""
        #: Sums that it knows to be owed, and those that ever were, by order, hold and refund.
        self.owed: set[str] = set()
        self.owed_ever: set[str] = set()
        #: The decision of payments that changed them last.
        self.owed_version = 0
        #: Its pieces and allowances; None for rules version 1.
        self.supply: Supply | None = None
        #: Its inputs; None if the inbox is not read, or has lost some of them.
        self.inputs: GroupInputs | None = None
        self._findings = findings
        # Of the decision that is folded: its time, cause and events, the number of orders that it seated from the
        # waitlist, the orders whose funds it has to return, and the pieces that the stock item has left; -1: it did not
        # say that there are too few.
        self._at_ms = 0
        self._cause = -1
        self._events: Collection[pb.GroupEvent] = ()
        self._promoted = 0
        self._to_return: list[str] = []
        self._free = -1

    @property
    def taken(self) -> int:
        """The number of seats that are reserved or confirmed."""
        return len(self.reserved) + len(self.confirmed)

    @property
    def _failed(self) -> bool:
        """Whether the rules failed on the input of this decision."""
        return any(event.HasField("faulted") for event in self._events)

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

    # --- seats -------------------------------------------------------------------------------------------------------

    def _seat_reserved(self, event: Any) -> None:
        order = event.order
        seat = self._seat("seat_reserved", order)
        self._join(seat, event.customer)
        seat.reserve(event)
        self.reserved[order] = None
        terms = self.terms
        if self.supply is not None:
            self.supply.seated += seat.quantity
            self._check_place(seat)
        if terms is None or self.state is not GroupState.FORMING:
            self._violation(Invariant.SEATS, f"a seat in a group that is {self.state.name}", order)
            return
        if (taken := self.taken) > terms.capacity:
            self._violation(Invariant.SEATS, f"seat {taken} of {terms.capacity}", order)
        if (count := self.by_customer[seat.customer]) > terms.seats_per_customer:
            self._violation(Invariant.SEATS, f"customer {seat.customer} has {count} seats", order)
        if not terms.entry_price_minor:
            self._violation(Invariant.RIGHT_AMOUNT, "a seat in a group without a price", order)
            return
        price = terms.entry_price_minor * seat.quantity
        if seat.hold_minor != price or seat.currency != terms.currency:
            self._violation(
                Invariant.RIGHT_AMOUNT,
                f"holds {seat.hold_minor} {seat.currency}, should hold {price} {terms.currency}",
                order,
            )
        if not 1 <= seat.quantity <= terms.max_quantity:
            self._violation(Invariant.SEATS, f"a seat for {seat.quantity} pieces, at most {terms.max_quantity}", order)
        until_ms = min(self._at_ms + terms.hold_window_ms, self.deadline_ms)
        if seat.reserved_until_ms != until_ms:
            what = f"reserved until {seat.reserved_until_ms}, its terms give {until_ms}"
            self._violation(Invariant.ENDS_IN_TIME, what, order)
        if event.hold_until_ms < self.deadline_ms + DAY_MS:
            self._violation(Invariant.ENDS_IN_TIME, "its hold may end less than a day after the deadline", order)
        if self.inputs is not None:
            for what in self.inputs.seat_problems(event, terms, self._cause):
                self._violation(Invariant.FOLLOWS_INPUT, what, order)

    def _join(self, seat: Seat, customer: str) -> None:
        """Takes an order from the waitlist, or counts a new one."""
        order = seat.order
        if order in self.waiting:
            if next(iter(self.waiting)) != order:
                self._violation(Invariant.SEATS, "seated before the first of the waitlist", order)
            del self.waiting[order]
            self._promoted += 1
            return
        if self.waiting:
            self._violation(Invariant.SEATS, "seated before the waitlist", order)
        if seat.state is not SeatState.UNKNOWN:
            self._vacate(seat)
        self.by_customer[customer] = self.by_customer.get(customer, 0) + 1

    def _check_place(self, seat: Seat) -> None:
        """Checks that an order of a group of rules version 2 may have a seat or wait for one."""

    def _seat_refused(self, event: Any) -> None:
        sold_out = self.supply is not None and event.reason == pb.REFUSAL_REASON_SOLD_OUT
        seat = self._seat("sold_out" if sold_out else "seat_refused", event.order)
        before = seat.state
        self._vacate(seat)
        if self.supply is not None:
            if before is not SeatState.UNKNOWN and event.reason != pb.REFUSAL_REASON_LIMIT_REACHED:
                self._owe_allowance(seat)
            self.supply.admitting.pop(event.order, None)
        rightly = self._is_refused_rightly(event, seat, before)
        if not (rightly or (event.reason in _REFUSED_BY_FAULT and self._failed)):
            reason = pb.RefusalReason.Name(event.reason).removeprefix("REFUSAL_REASON_")
            self._violation(Invariant.ONE_END_OF_ORDER, f"refused for {reason}, which is not so", event.order)
        seat.customer, seat.request_sha256 = event.customer, event.request_sha256
        seat.state = SeatState.REFUSED

    def _is_supply_refusal(self, event: Any, seat: Seat, before: SeatState) -> bool | None:
        """Whether a refusal for a reason of rules version 2 is true; None for other reasons."""
        return None

    def _owe_allowance(self, seat: Seat) -> None:
        """An order that was admitted, or waits for it, has ended without a purchase."""
        if self.supply is not None and seat.limited:
            self.supply.to_return[seat.order] = seat.customer

    def _is_refused_rightly(self, event: Any, seat: Seat, before: SeatState) -> bool:
        reason, terms = event.reason, self.terms
        state = _REFUSED_IN.get(reason)
        true = self._is_supply_refusal(event, seat, before) if state is None else self.state is state
        if true is not None:
            return true
        if reason == pb.REFUSAL_REASON_GROUP_FULL:
            if terms is None:
                return False
            return len(self.waiting) >= MAX_WAITLIST if terms.waitlist else self.taken >= terms.capacity
        if reason == pb.REFUSAL_REASON_ALREADY_MEMBER:
            return terms is not None and self.by_customer.get(event.customer, 0) >= terms.seats_per_customer
        if self.inputs is None:
            return True
        orphaned = seat.state is SeatState.UNKNOWN and seat.release_requested
        return self.inputs.refusal_is_true(event, terms, self._cause, self._at_ms, orphaned=orphaned)

    def _seat_waitlisted(self, event: Any) -> None:
        order = event.order
        seat = self._seat("seat_waitlisted", order)
        self._vacate(seat)
        seat.customer, seat.quantity, seat.request_sha256 = event.customer, event.quantity, event.request_sha256
        seat.state = SeatState.WAITLISTED
        count = self.by_customer[event.customer] = self.by_customer.get(event.customer, 0) + 1
        terms = self.terms
        if self.supply is not None:
            self._check_place(seat)
        if terms is None or self.state is not GroupState.FORMING or not self._may_wait(terms):
            self._violation(Invariant.SEATS, "waitlisted in a group without a waitlist", order)
        else:
            if self.taken < terms.capacity and not self.waiting and self._is_seatable(order):
                self._violation(Invariant.SEATS, "waitlisted though a seat is free", order)
            if count > terms.seats_per_customer:
                self._violation(Invariant.SEATS, f"customer {event.customer} has {count} seats", order)
        self.waiting[order] = None
        if self.inputs is not None:
            for what in self.inputs.waitlist_problems(event, self._cause):
                self._violation(Invariant.FOLLOWS_INPUT, what, order)

    def _may_wait(self, terms: FrozenTerms) -> bool:
        """Whether an order may wait. Without a waitlist, an order with a free seat waits for its pieces."""
        return terms.waitlist or (bool(terms.stock) and terms.capacity - self.taken > len(self.waiting))

    def _is_seatable(self, order: str) -> bool:
        """Whether the group has pieces for one more order."""
        return self.supply is None

    def _member_confirmed(self, event: Any) -> None:
        order = event.order
        seat = self._seat("member_confirmed", order)
        if self.state is not GroupState.FORMING:
            self._violation(Invariant.ENDS_IN_TIME, f"confirmed in a group that is {self.state.name}", order)
        elif self._at_ms >= self.deadline_ms:
            self._violation(Invariant.ENDS_IN_TIME, "confirmed after the deadline", order)
        elif self._at_ms >= seat.reserved_until_ms:
            self._violation(Invariant.ENDS_IN_TIME, "confirmed after its reservation had lapsed", order)
        self.reserved.pop(order, None)
        seat.state, seat.hold = SeatState.CONFIRMED, event.hold
        self.confirmed[order] = None
        if event.members != len(self.confirmed):
            self._violation(
                Invariant.RIGHT_AMOUNT, f"counts {event.members} members, {len(self.confirmed)} are confirmed"
            )

    def _seat_released(self, event: Any) -> None:
        order, reason = event.order, event.reason
        seat = self._seat("seat_released", order)
        if seat.to_settle_minor >= 0:
            self._violation(
                Invariant.ONE_END_OF_ORDER, "its seat is released after its settlement was requested", order
            )
        if (state := _RELEASED_IN.get(reason, GroupState.FORMING)) is not self.state:
            what = f"its seat is released for {_name(reason)} in a group that is {self.state.name}"
            self._violation(Invariant.ONE_END_OF_ORDER, what, order)
        elif state is GroupState.COMPLETED and seat.state is SeatState.CONFIRMED:
            self._violation(Invariant.ONE_END_OF_ORDER, "a member of the completed group is released", order)
        if reason == pb.RELEASE_REASON_LAPSED and (
            seat.state is not SeatState.RESERVED or self._at_ms < seat.reserved_until_ms
        ):
            self._violation(Invariant.ENDS_IN_TIME, "lapsed before its time", order)
        if (
            reason == pb.RELEASE_REASON_CANCELLED
            and self.inputs is not None
            and not self.inputs.cancel_requested(order, self._cause)
        ):
            self._violation(Invariant.FOLLOWS_INPUT, "cancelled without a request", order)
        if seat.state is not SeatState.WAITLISTED and reason != pb.RELEASE_REASON_DECLINED:
            self._to_return.append(order)
        self._vacate(seat)
        self._owe_allowance(seat)
        seat.state = ENDS.get(reason, SeatState.RELEASED)

    def _vacate(self, seat: Seat) -> None:
        if self.supply is not None and seat.state.seated:
            self.supply.seated -= seat.quantity
        if seat.state.live:
            self.by_customer[seat.customer] -= 1
            self.reserved.pop(seat.order, None)
            self.confirmed.pop(seat.order, None)
            self.waiting.pop(seat.order, None)

    #: The method of each kind of event about an order.
    HANDLERS: ClassVar[Mapping[str, Callable[[Membership, Any], None]]] = {
        "seat_reserved": _seat_reserved,
        "seat_refused": _seat_refused,
        "seat_waitlisted": _seat_waitlisted,
        "member_confirmed": _member_confirmed,
        "seat_released": _seat_released,
    }


def _name(reason: pb.ReleaseReason.ValueType) -> str:
    return pb.ReleaseReason.Name(reason).removeprefix("RELEASE_REASON_")
