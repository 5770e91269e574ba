"""Checks of one group across its logs: orders against decisions, decisions against payments.

With `settled`, everything that is pending is a violation. Without it, pending work is only counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ops.audit.cases import Case, Placed
from ops.audit.findings import Findings, Invariant
from ops.audit.group.membership import GroupState
from ops.audit.group.seats import Seat, SeatState
from ops.audit.money.holds import Hold, Payment
from ops.audit.money.provider_life import RELEASED_BY_OPERATOR
from ops.audit.money.refunds import owed_key
from ops.audit.money.status import status_of

#: Operation -> the pending calls of it, by the beginnings of their names.
_PENDING: Mapping[str, tuple[str, ...]] = {
    "authorise": ("hold",),
    "sale": ("hold",),
    "capture": ("capture",),
    "void": ("void ",),
    "refund": ("refund ", "return "),
}


@dataclass(frozen=True, slots=True)
class Scope:
    """How strict the checks are."""

    #: Whether pending work is a violation.
    settled: bool
    #: Whether these topics still have their first records.
    orders_whole: bool = True
    payment_inbox_whole: bool = True
    #: Whether the records come in the order in which they were written, so that every cause is known before its effect.
    causal: bool = False


class AcrossLogs:
    """The checks of one group, in one pass over its orders."""

    def __init__(self, case: Case, scope: Scope, findings: Findings) -> None:
        self._case = case
        self._scope = scope
        self._findings = findings

    def check(self) -> None:
        """Adds all violations and all pending work to the findings."""
        case = self._case
        if case.trimmed:
            return
        group = case.group
        if group.state is GroupState.FORMING:
            self._pending(Invariant.ENDS_IN_TIME, "", "the group is still forming")
        elif group.state is GroupState.COMPLETED and not group.settled:
            self._pending(Invariant.ENDS_IN_TIME, "", "the group is completed and not settled")
        for order in case.unreadable - case.placed.keys():
            self._check_unreadable(order)
        # A fixed iteration order: two audits of one log print the same text.
        for order in {**case.placed, **group.seats, **case.group_payments.payments}:
            self._check_order(order)
        for order, payment in case.group_payments.payments.items():
            if payment.debts or payment.declined_minor or payment.alarms or payment.hold_alarms:
                self._check_alarms(order, payment)
        if case.group.faulted or case.group_payments.faulted:
            self._check_fault()
        for refund, command in case.refunds.items():
            order = command.order
            owner = case.group_payments.payments.get(order)
            request = None if owner is None else owner.refunds.get(refund)
            if request is None:
                self._pending(Invariant.ENDS_IN_TIME, order, f"refund {refund} is not decided")
            elif request.amount not in (0, command.amount_minor or request.left):
                what = (
                    f"refund {refund} of {request.amount}, requested was {command.amount_minor or 'all that is left'}"
                )
                self._violation(Invariant.RIGHT_AMOUNT, order, what)

    def _check_fault(self) -> None:
        """A failure of the rules is an open alarm while the group has pending work.

        A group that was never opened has no end: nothing is pending once all its orders have one.
        """
        group = self._case.group
        if group.state is GroupState.NONE:
            done = self._are_all_ended()
        else:
            done = group.settled if group.state is GroupState.COMPLETED else group.state > GroupState.COMPLETED
        if not done or any(payment.pending for payment in self._case.group_payments.payments.values()):
            error = group.faulted or self._case.group_payments.faulted
            self._findings.open_alarm(f"group {self._case.key}: the rules failed with {error}")

    def _are_all_ended(self) -> bool:
        """Whether each order that was placed has its end, and each requested release is done."""
        seats = self._case.group.seats
        ended = all(
            order in seats and seats[order].state.final for order in {*self._case.placed, *self._case.unreadable}
        )
        return ended and not any(seat.release_requested and not seat.released for seat in seats.values())

    def check_orders(self, orders: Iterable[str]) -> None:
        """The same for some orders of the group alone."""
        if not self._case.trimmed:
            for order in orders:
                self._check_order(order)

    def _check_order(self, order: str) -> None:
        case = self._case
        seat = case.group.seats.get(order) or Seat(order)
        placed = case.placed.get(order)
        payment = case.group_payments.payments.get(order) or Payment()
        if placed is not None:
            self._check_placed(seat, placed)
        elif self._scope.orders_whole and seat.state is not SeatState.UNKNOWN and not self._known_otherwise(order):
            self._violation(Invariant.ONE_END_OF_ORDER, order, f"{seat.state.name}, but it was not placed")
        if seat.state is not SeatState.UNKNOWN and not seat.state.final:
            self._pending(Invariant.ONE_END_OF_ORDER, order, f"the order is {seat.state.name}")
        self._check_holding(seat, payment)
        self._check_charge(seat, payment)
        self._check_release(seat, payment)
        if payment.owed_ever and seat.state is not SeatState.UNKNOWN:
            self._check_owed(seat.order, payment)
        if payment.pending:
            for call in sorted(payment.pending):
                self._pending(
                    Invariant.ENDS_IN_TIME, order, f"the payment is {status_of(payment)}, a call is pending: {call}"
                )
        for reference, hold in payment.holds.items():
            self._check_hold(order, reference, hold, payment)

    def _known_otherwise(self, order: str) -> bool:
        return order in self._case.unreadable or order in self._case.cancel_requested

    # --- orders ----------------------------------------------------------------------------------------------

    def _check_unreadable(self, order: str) -> None:
        seat = self._case.group.seats.get(order)
        if seat is None:
            self._pending(Invariant.ONE_END_OF_ORDER, order, "its record can't be decoded, and it is not refused")
        elif seat.state is not SeatState.REFUSED:
            self._violation(
                Invariant.ONE_END_OF_ORDER, order, f"its record can't be decoded, and it is {seat.state.name}"
            )

    def _check_placed(self, seat: Seat, placed: Placed) -> None:
        order = seat.order
        if seat.state is SeatState.UNKNOWN:
            self._pending(Invariant.ONE_END_OF_ORDER, order, "placed and not decided")
            return
        if seat.request_sha256 and seat.request_sha256 != placed.request_sha256:
            self._violation(
                Invariant.SAME_REQUEST_SAME_RESULT, order, "decided from another request than the first one"
            )
        if seat.customer and seat.customer != placed.customer:
            self._violation(
                Invariant.SAME_REQUEST_SAME_RESULT, order, f"placed by {placed.customer}, decided for {seat.customer}"
            )
        if seat.hold_minor == 0:
            return
        if (seat.quantity, seat.currency) != (placed.quantity, placed.currency):
            self._violation(
                Invariant.RIGHT_AMOUNT,
                order,
                f"placed {placed.quantity} in {placed.currency}, decided {seat.quantity} in {seat.currency}",
            )
        if seat.hold_minor > (agreed := placed.max_unit_price_minor * placed.quantity):
            self._violation(
                Invariant.RIGHT_AMOUNT, order, f"holds {seat.hold_minor}, more than the agreed maximum of {agreed}"
            )

    # --- payments ------------------------------------------------------------------------------------

    def _check_holding(self, seat: Seat, payment: Payment) -> None:
        if payment.hold_requests and (payment.requested_minor, payment.currency) != (seat.hold_minor, seat.currency):
            self._violation(
                Invariant.RIGHT_AMOUNT,
                seat.order,
                f"a hold of {payment.requested_minor} {payment.currency} was requested, "
                f"the seat has {seat.hold_minor} {seat.currency or 'and no currency'}",
            )
        if payment.hold_requests > 1 and payment.renewed_minor not in (seat.hold_minor, seat.to_settle_minor):
            what = f"a hold of {payment.renewed_minor} is requested again, due is {seat.to_settle_minor}"
            self._violation(Invariant.RIGHT_AMOUNT, seat.order, what)
        for reference, hold in payment.holds.items():
            if hold.unexpected:
                continue
            if hold.void_requested and reference == seat.hold and self._is_needed(seat):
                self._violation(Invariant.ONE_END_OF_ORDER, seat.order, f"hold {reference} of a member is voided")
            if hold.held not in (seat.hold_minor, seat.to_settle_minor) or hold.currency != seat.currency:
                self._violation(
                    Invariant.RIGHT_AMOUNT,
                    seat.order,
                    f"hold {reference} is {hold.held} {hold.currency}, the seat has {seat.hold_minor} {seat.currency}",
                )
        if not seat.hold:
            return
        confirmed_by = payment.holds.get(seat.hold)
        if confirmed_by is None:
            self._missing(
                Invariant.HELD_IS_ACCOUNTED_FOR,
                seat.order,
                f"confirmed by hold {seat.hold}, which is not in the payment log",
            )
        elif confirmed_by.held != seat.hold_minor:
            self._violation(
                Invariant.RIGHT_AMOUNT, seat.order, f"confirmed by a hold of {confirmed_by.held}, not {seat.hold_minor}"
            )

    def _is_needed(self, seat: Seat) -> bool:
        return self._case.group.state is GroupState.FORMING and seat.state.seated

    def _check_charge(self, seat: Seat, payment: Payment) -> None:
        group, order = self._case.group, seat.order
        captured = [hold for hold in payment.holds.values() if hold.captures]
        if payment.capture_cause >= 0:
            self._check_completed_before(order, payment.capture_cause)
        # The provider may capture an order that is to be released; it is refunded.
        if payment.unasked_cause >= 0 and not seat.release_requested:
            self._check_completed_before(order, payment.unasked_cause)
        for hold in captured:
            if order not in group.members or RELEASED_BY_OPERATOR in payment.references:
                continue
            owed = group.discounted_minor(seat)
            if hold.kept != owed:
                self._violation(Invariant.RIGHT_AMOUNT, order, f"captured {hold.kept}, the price of the tier is {owed}")
            if seat.state.final and seat.state is not SeatState.SETTLED:
                self._violation(
                    Invariant.ONE_END_OF_ORDER, order, f"captured {hold.kept}, but the order is {seat.state.name}"
                )
        if seat.state is SeatState.SETTLED:
            if not captured:
                self._missing(
                    Invariant.RIGHT_AMOUNT,
                    order,
                    f"settled at {seat.settled_minor}, and no capture is in the payment log",
                )
            elif (kept := sum(hold.kept for hold in captured)) != seat.settled_minor:
                self._violation(Invariant.RIGHT_AMOUNT, order, f"settled at {seat.settled_minor}, captured {kept}")
        elif captured and not seat.state.final:
            self._pending(Invariant.ONE_END_OF_ORDER, order, "captured, and not yet settled in the group log")

    def _check_completed_before(self, order: str, cause: int) -> None:
        case = self._case
        if order not in case.group.members:
            state = case.group.state.name
            self._violation(
                Invariant.CAPTURE_AFTER_COMPLETION,
                order,
                f"captured, but it is not a member of its group, which is {state}",
            )
        elif case.completion_input < 0:
            if self._scope.payment_inbox_whole:
                self._violation(
                    Invariant.CAPTURE_AFTER_COMPLETION, order, "captured before the completion was in the payment inbox"
                )
        elif cause < case.completion_input:
            self._violation(
                Invariant.CAPTURE_AFTER_COMPLETION,
                order,
                f"capture decided at input {cause}, before the completion at {case.completion_input}",
            )

    def _check_release(self, seat: Seat, payment: Payment) -> None:
        order = seat.order
        asked = seat.release_requested or RELEASED_BY_OPERATOR in payment.references
        if payment.released and not asked:
            self._violation(Invariant.ONE_END_OF_ORDER, order, "payments released it without a request of the group")
        if seat.released and not payment.released:
            self._missing(Invariant.HELD_IS_ACCOUNTED_FOR, order, "released in the group log, not in the payment log")
        if seat.release_requested and not seat.released:
            self._pending(Invariant.ENDS_IN_TIME, order, "its release is requested and not done")

    def _check_owed(self, order: str, payment: Payment) -> None:
        """The group knows what is owed: it is not done until then."""
        group = self._case.group
        for key in sorted(payment.owed_ever):
            name = f"{order} {key}"
            if name not in group.owed_ever or (name in group.owed) != (key in payment.debts):
                self._pending(Invariant.OWED, order, f"its group does not know whether {key.strip()} is owed")

    def _check_hold(self, order: str, reference: str, hold: Hold, payment: Payment) -> None:
        if hold.open < 0:
            self._violation(
                Invariant.HELD_IS_ACCOUNTED_FOR,
                order,
                f"hold {reference}: captured {hold.captured} and released {hold.released} of {hold.held}",
            )
        elif hold.open > 0:
            self._pending(Invariant.HELD_IS_ACCOUNTED_FOR, order, f"hold {reference}: {hold.open} is still held")
        left = hold.merchants - hold.kept
        if left:
            self._check_left(order, reference, hold, payment, left)

    def _check_left(self, order: str, reference: str, hold: Hold, payment: Payment, left: int) -> None:
        """Money of a hold that is neither the charge nor returned: it is owed, disputed, or its return is pending."""
        debt = payment.debts.get(owed_key(reference, ""))
        owed = 0 if debt is None else debt.amount
        if owed and owed == left - hold.disputed and debt is not None and debt.alarm:
            return
        what = (
            f"hold {reference}: captured {hold.captured}, returned {hold.own_refunds}, charged {hold.kept}, owed {owed}"
        )
        done = payment.captured or payment.released or payment.failed
        waits = owed or hold.disputed or hold.suspense_left or reference in payment.returns or payment.pending
        if self._case.group_payments.rules_version > 1 and done and not waits:
            self._violation(Invariant.OWED, order, what)
        else:
            self._pending(Invariant.HELD_IS_ACCOUNTED_FOR, order, what)

    def _check_alarms(self, order: str, payment: Payment) -> None:
        """Alarms that are still open: an operator has to act."""
        for debt in payment.debts.values():
            if debt.alarm:
                self._alarm(order, f"{debt.amount} of hold {debt.hold} are owed: {debt.reason}")
            else:
                self._pending(Invariant.OWED, order, f"{debt.amount} of hold {debt.hold} are owed: {debt.reason}")
        for key, twice in payment.returned_twice.items():
            self._alarm(order, f"{twice} of hold {key.strip()} were returned twice")
        if payment.declined_minor:
            self._alarm(order, f"{payment.declined_minor} are owed: the provider declined the refund")
        for operation, why in payment.alarms.items():
            if any(call.startswith(_PENDING[operation]) for call in payment.pending):
                self._alarm(order, f"call {operation}: {why}")
        for reference, hold in payment.holds.items():
            waiting = hold.suspense_left
            if waiting and not {f"return {reference}", f"void {reference}"} & payment.pending.keys():
                self._alarm(order, f"{waiting} {hold.currency} of hold {reference} are unexpected, and not returned")
            if hold.at_risk and hold.open > 0:
                self._alarm(order, f"hold {reference} ends before its capture")

    def _alarm(self, order: str, what: str) -> None:
        self._findings.open_alarm(f"group {self._case.key} order {order}: {what}")

    def _violation(self, invariant: Invariant, order: str, what: str) -> None:
        self._findings.breach(invariant, self._case.key, order, what)

    def _missing(self, invariant: Invariant, order: str, what: str) -> None:
        """Records that a cause is not in its log: pending work, unless every cause has to be known."""
        if self._scope.causal:
            self._violation(invariant, order, what)
        else:
            self._pending(invariant, order, what)

    def _pending(self, invariant: Invariant, order: str, what: str) -> None:
        """Records a violation if everything should be settled, else pending work."""
        if self._scope.settled:
            self._violation(invariant, order, what)
        elif not self._scope.causal:
            self._findings.add_pending(f"group {self._case.key}" + (f" order {order}" if order else "") + f": {what}")
