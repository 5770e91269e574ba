"""The pieces and allowances of one group of rules version 2, folded from its events and checked one by one.

The part of GroupFold about stock items and limits; the audit's own copy of the lease protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from groupbuy.groups.v1 import decisions_pb2 as pb

from ops.audit.findings import Invariant
from ops.audit.group.endings import Endings
from ops.audit.group.membership import MAX_WAITLIST, GroupState
from ops.audit.group.pieces import Sent, Supply
from ops.audit.group.seats import Seat, SeatState


class Supplied(Endings):
    """A group with its pieces and allowances."""

    __slots__ = ()

    def _supply(self, body: str) -> Supply:
        """The pieces. A group of rules version 1 has none."""
        if self.supply is None:
            self._violation(Invariant.PIECES, f"{body} in a group without stock and limit")
            self.supply = Supply()
        return self.supply

    def _sent(self, supply: Supply) -> Sent:
        return supply.sent.setdefault(self._cause, Sent()) if self.inputs is not None else Sent()

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _units_requested(self, event: Any) -> None:
        supply = self._supply("units_requested")
        terms = self.terms
        if self.state is not GroupState.FORMING or terms is None or event.stock != terms.stock:
            self._violation(
                Invariant.LEASES, f"asks for pieces of {event.stock!r} in a group that is {self.state.name}"
            )
        if supply.asked:
            self._violation(Invariant.LEASES, "asks for pieces before the answer to its last request")
        if not 0 < event.at_least <= event.wanted <= event.at_most:
            self._violation(
                Invariant.LEASES, f"asks for {event.at_least} to {event.at_most} pieces, wants {event.wanted}"
            )
        supply.asked = supply.ever_asked = True
        sent = self._sent(supply)
        sent.at_least, sent.wanted, sent.at_most = event.at_least, event.wanted, event.at_most
        sent.queue = event.queue

    def _answered(self, body: str, version: int) -> Supply:
        supply = self._supply(body)
        if not supply.asked:
            self._violation(Invariant.LEASES, f"{body} without a request")
        if version <= supply.stock_version:
            what = f"{body} of version {version}, after version {supply.stock_version} of the stock item"
            self._violation(Invariant.LEASES, what)
        supply.stock_version = version
        return supply

    def _units_granted(self, event: Any) -> None:
        supply = self._answered("units_granted", event.stock_version)
        supply.asked = False
        supply.granted += event.units
        if event.units <= 0:
            self._violation(Invariant.PIECES, f"a lease of {event.units} pieces")
        if self.inputs is not None:
            supply.grants[event.stock_version] = event.units
            if self.inputs.stock_answer(self._cause) != (event.stock_version, event.units, 0, False):
                self._violation(Invariant.FOLLOWS_INPUT, f"{event.units} pieces that its input does not grant")

    def _units_denied(self, event: Any) -> None:
        supply = self._answered("units_denied", event.stock_version)
        supply.asked = event.queued
        self._free = event.free if not event.queued else -1
        if self.inputs is not None:
            answer = (event.stock_version, 0, event.free, event.queued)
            if self.inputs.stock_answer(self._cause) != answer:
                self._violation(Invariant.FOLLOWS_INPUT, "a denial that is not its input")

    def _units_returned(self, event: Any) -> None:
        supply = self._supply("units_returned")
        if not 0 <= event.units <= supply.idle:
            self._violation(Invariant.PIECES, f"gives {event.units} pieces back, {supply.idle} are in no seat")
        if event.closed and (supply.closed or self.state is GroupState.FORMING):
            self._violation(Invariant.LEASES, "says that it asks for no more pieces, again or while it forms")
        supply.closed = supply.closed or event.closed
        supply.returned += event.units
        sent = self._sent(supply)
        sent.returned += event.units
        sent.closed = sent.closed or event.closed

    def _units_sold(self, event: Any) -> None:
        supply = self._supply("units_sold")
        if event.units != supply.unreported:
            self._violation(Invariant.PIECES, f"sells {event.units} pieces, {supply.unreported} were charged")
        supply.unreported -= event.units
        supply.sold += event.units
        self._sent(supply).sold += event.units

    # --- allowances --------------------------------------------------------------------------------------------------

    def _admission_requested(self, event: Any) -> None:
        order = event.order
        supply = self._supply("admission_requested")
        seat = self._seat("admission_requested", order)
        seat.customer, seat.quantity, seat.request_sha256 = event.customer, event.quantity, event.request_sha256
        seat.state, seat.limited = SeatState.ADMITTING, True
        supply.admitting[order] = None
        terms = self.terms
        wanted = None if terms is None else (terms.campaign, terms.limit_per_customer)
        if self.state is not GroupState.FORMING or (event.campaign, event.limit) != wanted or not event.limit:
            what = f"asks for admission to {event.campaign} with limit {event.limit}, its terms give {wanted}"
            self._violation(Invariant.LIMITS, what, order)
        if terms is not None and not terms.is_on_sale(self._at_ms):
            self._violation(Invariant.SALE_TIMES, "asks for admission outside the sale", order)

    def _allowance_returned(self, event: Any) -> None:
        supply = self._supply("allowance_returned")
        if supply.to_return.pop(event.order, None) != event.customer:
            what = f"gives an allowance of customer {event.customer} back, which it does not owe"
            self._violation(Invariant.LIMITS, what, event.order)

    # --- what holds after every decision -----------------------------------------------------------------------------

    def _check_supply(self, supply: Supply) -> None:
        """The invariants after every decision of a group with pieces."""
        terms = self.terms
        if terms is None:
            return
        if terms.solo and self.state is GroupState.FORMING and not (self.taken or self.waiting or supply.admitting):
            self._violation(Invariant.ONE_END_OF_GROUP, "a solo purchase forms on without its order")
        if not terms.stock:
            return
        if supply.unreported:
            self._violation(Invariant.LEASES, f"{supply.unreported} charged pieces are not reported as sold")
        if supply.idle < 0:
            what = f"{supply.seated} pieces in seats, {supply.seated + supply.idle} are the group's"
            self._violation(Invariant.PIECES, what)
        if self.state is not GroupState.FORMING:
            if supply.idle > 0 or (supply.ever_asked and not supply.closed):
                self._violation(Invariant.LEASES, f"{self.state.name}, and it keeps {supply.idle} idle pieces")
        elif self.waiting and self.taken < terms.capacity and not supply.asked:
            first = self.seats[next(iter(self.waiting))]
            if first.quantity > supply.idle:
                self._violation(Invariant.LEASES, "waits for pieces that the group did not ask for", first.order)

    def _leads_waiting(self, leader: str) -> bool:
        """Whether the leader waits, for pieces or for its admission."""
        supply = self.supply
        return supply is not None and (leader in self.waiting or leader in supply.admitting)

    def _is_seatable(self, order: str) -> bool:
        """Whether the group has pieces for one more order."""
        terms, supply = self.terms, self.supply
        return supply is None or terms is None or not terms.stock or supply.idle >= self.seats[order].quantity

    def _check_place(self, seat: Seat) -> None:
        """Checks that an order gets a seat, or waits, within the sale and, in a limited campaign, admitted."""
        terms, supply = self.terms, self.supply
        if terms is None or supply is None:
            return
        supply.admitting.pop(seat.order, None)
        if not terms.is_on_sale(self._at_ms):
            self._violation(Invariant.SALE_TIMES, f"a seat at {self._at_ms}, outside the sale", seat.order)
        if not terms.limit_per_customer:
            return
        if not seat.limited:
            self._violation(Invariant.LIMITS, "seated in a limited campaign without its admission", seat.order)
        elif self.inputs is not None and not self.inputs.is_admitted(seat.order, self._cause):
            self._violation(Invariant.LIMITS, "seated without an answer that admits it", seat.order)

    def _is_supply_refusal(self, event: Any, seat: Seat, before: SeatState) -> bool | None:
        """Whether a refusal for a reason of rules version 2 is true; None for other reasons."""
        is_true = self.REASONS.get(event.reason)
        if is_true is None or self.terms is None or self.supply is None:
            return None
        return is_true(self, event.order, seat, before)

    def _is_not_started(self, order: str, seat: Seat, before: SeatState) -> bool:
        return self.terms is not None and self._at_ms < self.terms.start_ms

    def _has_ended(self, order: str, seat: Seat, before: SeatState) -> bool:
        return self.terms is not None and 0 < self.terms.end_ms <= self._at_ms

    def _is_sold_out(self, order: str, seat: Seat, before: SeatState) -> bool:
        idle = 0 if self.supply is None else self.supply.idle
        return before is SeatState.WAITLISTED and self._free >= 0 and seat.quantity > idle + self._free

    def _is_beyond_limit(self, order: str, seat: Seat, before: SeatState) -> bool:
        known = self.inputs is None or self.inputs.is_denied(order, self._cause)
        return before is SeatState.ADMITTING and known

    def _is_full(self, order: str, seat: Seat, before: SeatState) -> bool:
        terms, supply = self.terms, self.supply
        if terms is None or supply is None:
            return False
        waiting = len(self.waiting)
        places = terms.waitlist and waiting < MAX_WAITLIST
        full = terms.capacity - self.taken <= waiting and not places
        return full or len(supply.admitting) + waiting >= MAX_WAITLIST

    def _is_cancelled(self, order: str, seat: Seat, before: SeatState) -> bool | None:
        """For an order that waits for its admission: funds that arrive before it end the order, too."""
        if before is not SeatState.ADMITTING:
            return None
        known = self.inputs is None or self.inputs.cancel_requested(order, self._cause)
        return known or self._has_funds(order)

    def _has_funds(self, order: str) -> bool:
        """Whether this decision returns funds of an order, or records their return."""
        return any(order in (one.release_requested.order, one.member_released.order) for one in self._events)

    #: The method of each kind of event about pieces and allowances.
    SUPPLY: ClassVar[Mapping[str, Callable[[Supplied, Any], None]]] = {
        "units_requested": _units_requested,
        "units_granted": _units_granted,
        "units_denied": _units_denied,
        "units_returned": _units_returned,
        "units_sold": _units_sold,
        "admission_requested": _admission_requested,
        "allowance_returned": _allowance_returned,
    }

    #: Reason of a refusal -> whether it is true, from the order, its seat, and the state of the seat before.
    REASONS: ClassVar[Mapping[int, Callable[[Supplied, str, Seat, SeatState], bool | None]]] = {
        pb.REFUSAL_REASON_NOT_STARTED: _is_not_started,
        pb.REFUSAL_REASON_ENDED: _has_ended,
        pb.REFUSAL_REASON_SOLD_OUT: _is_sold_out,
        pb.REFUSAL_REASON_LIMIT_REACHED: _is_beyond_limit,
        pb.REFUSAL_REASON_GROUP_FULL: _is_full,
        pb.REFUSAL_REASON_CANCELLED: _is_cancelled,
    }
