"""How orders of one group end: settlements and releases. The part of GroupFold between single orders and the group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ops.audit.findings import Invariant
from ops.audit.group.membership import GroupState, Membership
from ops.audit.group.seats import Seat, SeatState


class Endings(Membership):
    """The seats and members of a group, and what the group requests of payments for them."""

    __slots__ = ()

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
        if not 0 < event.amount_minor <= seat.hold_minor:
            what = f"settlement of {event.amount_minor} requested, {seat.hold_minor} is held"
            self._violation(Invariant.RIGHT_AMOUNT, what, event.order)

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
        elif seat.state.live:
            what = f"release requested though it is {seat.state.name}"
            self._violation(Invariant.ONE_END_OF_ORDER, what, event.order)
        seat.release_requested = True

    def _member_settled(self, event: Any) -> None:
        seat = self._seat("member_settled", event.order)
        self._end_settlement(seat)
        if event.amount_minor != seat.to_settle_minor:
            self._violation(
                Invariant.RIGHT_AMOUNT, f"charged {event.amount_minor}, requested {seat.to_settle_minor}", event.order
            )
        if self.supply is not None and seat.state.seated:
            self.supply.seated -= seat.quantity
            self.supply.unreported += seat.quantity
        seat.state, seat.settled_minor = SeatState.SETTLED, event.amount_minor

    def _member_declined(self, event: Any) -> None:
        seat = self._seat("member_declined", event.order)
        self._end_settlement(seat)
        if self.supply is not None and seat.state.seated:
            self.supply.seated -= seat.quantity
            self._owe_allowance(seat)
        seat.state = SeatState.DECLINED

    def _end_settlement(self, seat: Seat) -> None:
        if seat.to_settle_minor < 0:
            what = "the settlement of an order that is no member of a completed group"
            self._violation(Invariant.CAPTURE_AFTER_COMPLETION, what, seat.order)

    def _member_released(self, event: Any) -> None:
        seat = self.seats.get(event.order) or Seat(event.order)
        # An operator may release a member of a stuck settlement: across.py compares with the payment log.
        instead_of_charge = seat.to_settle_minor >= 0 and seat.state is SeatState.DECLINED
        if not (seat.release_requested or instead_of_charge):
            self._violation(Invariant.ONE_END_OF_ORDER, "released without a request", event.order)
        if seat.released:
            self._violation(Invariant.ONE_END_OF_ORDER, "released twice", event.order)
        seat.released = True

    def _member_owed(self, event: Any) -> None:
        key = f"{event.order} {event.hold} {event.refund}"
        if (key in self.owed) == bool(event.amount_minor):
            what = f"{event.amount_minor} of hold {event.hold} are reported as owed a second time"
            self._violation(Invariant.OWED, what, event.order)
        if event.payments_version < self.owed_version:
            what = f"decision {event.payments_version} of payments is recorded after {self.owed_version}"
            self._violation(Invariant.OWED, what, event.order)
        self.owed_version = event.payments_version
        if event.amount_minor:
            self.owed.add(key)
            self.owed_ever.add(key)
        else:
            self.owed.discard(key)

    def _cancel_refused(self, event: Any) -> None:
        order = event.order
        seat = self.seats.get(order) or Seat(order)
        settling = self.state is GroupState.COMPLETED and seat.state is SeatState.CONFIRMED
        orphaned = seat.state is SeatState.UNKNOWN and seat.release_requested
        if not (settling or seat.state.final or orphaned):
            what = f"its request to leave is refused, though it is {seat.state.name}"
            self._violation(Invariant.ONE_END_OF_ORDER, what, order)
        if seat.cancel_refused:
            self._violation(Invariant.ONE_END_OF_ORDER, "its request to leave is refused twice", order)
        if self.inputs is not None and not self.inputs.cancel_requested(order, self._cause):
            self._violation(Invariant.FOLLOWS_INPUT, "a request to leave is refused that nobody made", order)
        seat.cancel_refused = True

    #: The method of each kind of event.
    ENDINGS: ClassVar[Mapping[str, Callable[[Endings, Any], None]]] = {
        "settlement_requested": _settlement_requested,
        "release_requested": _release_requested,
        "member_settled": _member_settled,
        "member_released": _member_released,
        "member_declined": _member_declined,
        "member_owed": _member_owed,
        "cancel_refused": _cancel_refused,
    }
