"""The auditor's fold of one group's payments: the balances of every hold, and the permission for every movement.

Each hold balances: its money is captured, released or still open. The fold reads events alone, not the service's state.
"""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as pb

from tests.simulation.audit.groups import GroupAudit
from tests.simulation.audit.order import Order
from tests.simulation.audit.violation import Violation


class Hold:
    """One hold, in minor units: booked = open + captured + released. Suspense is apart."""

    __slots__ = ("booked", "captured", "open", "refunded", "released", "suspense", "unexpected")

    def __init__(self) -> None:
        #: Whether unexpected funds were booked on it.
        self.unexpected = False
        self.booked = self.open = self.captured = self.released = self.refunded = self.suspense = 0


class Payment:
    """The payment of one order."""

    __slots__ = ("captures", "charged", "commanded", "holds", "released", "sale", "spent")

    def __init__(self) -> None:
        self.holds: dict[str, Hold] = {}
        self.sale = False
        self.captures = 0
        #: The charge, and its part that was refunded by command.
        self.charged = 0
        self.spent = 0
        #: Pending commanded refunds.
        self.commanded: dict[str, int] = {}
        self.released = False


class GroupPaymentsAudit:
    """The payments of one group, checked against the group."""

    def __init__(self, key: str, group: GroupAudit) -> None:
        self.key = key
        self.group = group
        self.payments: dict[str, Payment] = {}
        #: Whether it received invalid claims or forged events, on which its rules may fail.
        self.misled = False
        self.refunds_decided: set[str] = set()
        #: Amounts whose refund the provider declined, by order.
        self.declined_refunds: dict[str, list[int]] = {}

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            raise Violation("payment rules", self.key, what)

    def payment(self, order: str) -> Payment:
        found = self.payments.get(order)
        if found is None:
            found = self.payments[order] = Payment()
        return found

    def hold(self, order: str, reference: str) -> Hold:
        holds = self.payment(order).holds
        found = holds.get(reference)
        if found is None:
            found = holds[reference] = Hold()
        return found

    def owed(self, order: str) -> set[int]:
        """Sums that the shop may still owe, since any of the declined refunds may have succeeded later."""
        sums = {0}
        for amount in self.declined_refunds.get(order, ()):
            sums |= {one + amount for one in sums}
        return sums

    def seat(self, order: str) -> Order:
        return self.group.order(order)

    def decided(self, decision: pb.PaymentDecision) -> None:
        """Folds the next decision."""
        for event in decision.events:
            kind = event.WhichOneof("body")
            assert kind is not None
            react = getattr(self, f"_{kind}", None)
            if react is not None:
                react(getattr(event, kind))

    # Holds -------------------------------------------------------------------------------------------------------

    def _hold_requested(self, event: pb.HoldRequested) -> None:
        call = event.call
        seat = self.seat(call.order)
        wanted = {seat.hold_amount, seat.to_capture}
        self.check(
            call.amount_minor > 0 and call.amount_minor in wanted,
            f"{call.order}: a hold of {call.amount_minor} is requested",
        )
        self.payment(call.order).sale = call.operation == pb.OPERATION_SALE

    def _hold_authorised(self, event: pb.HoldAuthorised) -> None:
        order = event.order
        payment, hold = self.payment(order), self.hold(order, event.hold)
        # Unexpected funds may be held beside it until they are returned.
        twice = any(one.open and not one.unexpected for one in payment.holds.values())
        self.check(not twice, f"{order} is held twice")
        seat = self.seat(order)
        self.check(event.amount_minor in (seat.hold_amount, seat.to_capture), f"{order} is held {event.amount_minor}")
        hold.booked += event.amount_minor
        if event.operation == pb.OPERATION_SALE:
            hold.captured += event.amount_minor
        else:
            hold.open += event.amount_minor

    def _capture_requested(self, event: pb.CaptureRequested) -> None:
        call = event.call
        self.check(self.group.phase == "COMPLETED", f"{call.order}: a capture is requested before the group completed")
        self.check(
            call.amount_minor == self.seat(call.order).to_capture,
            f"{call.order}: a capture of {call.amount_minor} is requested",
        )
        self.check(
            call.amount_minor <= self.hold(call.order, call.hold).open,
            f"{call.order}: a capture above the hold is requested",
        )

    def _captured(self, event: pb.Captured) -> None:
        order, amount = event.order, event.amount_minor
        payment, hold, seat = self.payment(order), self.hold(order, event.hold), self.seat(order)
        payment.captures += 1
        self.check(payment.captures == 1, f"{order} was captured twice")
        if not seat.release_requested:
            self.check(self.group.phase == "COMPLETED", f"{order} was captured before the group completed")
            self.check(amount == seat.to_capture, f"{order} was captured {amount}, not {seat.to_capture}")
            payment.charged = amount
        if not payment.sale:
            self.check(
                hold.open == amount + event.released_minor,
                f"{order}: {hold.open} was held, which the capture does not account for",
            )
            hold.open = 0
            hold.captured += amount
            hold.released += event.released_minor

    def _voided(self, event: pb.Voided | pb.HoldLapsed) -> None:
        hold = self.hold(event.order, event.hold)
        self.check(event.amount_minor == hold.open, f"{event.order}: {event.amount_minor} released of {hold.open} held")
        hold.released += hold.open
        hold.open = 0

    def _hold_lapsed(self, event: pb.HoldLapsed) -> None:
        self._voided(event)

    def _suspense_recorded(self, event: pb.SuspenseRecorded) -> None:
        hold = self.hold(event.order, event.hold)
        hold.suspense += event.amount_minor
        hold.unexpected = True

    def _void_requested(self, event: pb.VoidRequested) -> None:
        call = event.call
        if not call.hold:
            return
        hold = self.hold(call.order, call.hold)
        hold.booked += hold.suspense
        hold.open += hold.suspense
        hold.suspense = 0
        seat = self.seat(call.order)
        kept = seat.status in ("RESERVED", "CONFIRMED") and seat.hold == call.hold
        self.check(not kept or seat.forged, f"{call.order}: a void is requested of a hold that is needed")

    # Refunds -----------------------------------------------------------------------------------------------------

    def _refund_requested(self, event: pb.RefundRequested) -> None:
        call = event.call
        payment, hold = self.payment(call.order), self.hold(call.order, call.hold)
        hold.booked += hold.suspense
        hold.captured += hold.suspense
        hold.suspense = 0
        if call.refund:
            pending = sum(payment.commanded.values())
            left = payment.charged - payment.spent - pending
            self.check(
                0 < call.amount_minor <= left, f"{call.order}: a refund of {call.amount_minor} of {left} is requested"
            )
            self.check(call.refund not in self.refunds_decided, f"refund {call.refund} is requested twice")
            payment.commanded[call.refund] = call.amount_minor
        self.check(
            call.amount_minor <= hold.captured - hold.refunded, f"{call.order}: a refund above the capture is requested"
        )

    def _refunded(self, event: pb.Refunded) -> None:
        payment, hold = self.payment(event.order), self.hold(event.order, event.hold)
        hold.refunded += event.amount_minor
        self.check(hold.refunded <= hold.captured, f"{event.order}: {hold.refunded} refunded of {hold.captured}")
        if event.refund:
            payment.commanded.pop(event.refund, None)
            payment.spent += event.amount_minor
            self.refunds_decided.add(event.refund)

    def _refund_declined(self, event: pb.RefundDeclined) -> None:
        declined = bool(event.refund) or event.amount_minor in self.declined_refunds.get(event.order, ())
        self.check(declined, f"{event.order}: money that may not be kept was not returned")
        self.payment(event.order).commanded.pop(event.refund, None)
        self.refunds_decided.add(event.refund)

    def _payment_released(self, event: pb.PaymentReleased) -> None:
        payment = self.payment(event.order)
        self.check(not payment.released, f"{event.order} was released twice")
        payment.released = True
        for reference, hold in payment.holds.items():
            left = hold.open or hold.suspense
            self.check(not left, f"{event.order} was released while {left} of {reference} is not returned")
            left = hold.captured - hold.refunded
            self.check(
                left in self.owed(event.order),
                f"{event.order} was released, but {left} of {reference} was not returned",
            )

    def _faulted(self, event: pb.GroupPaymentsFaulted) -> None:
        self.check(self.misled, f"the rules failed: {event.error}")
