"""One purse, refolded from payments.payment.v1 and checked event by event: what was held, taken, let go, given back.

Reads nothing but the decisions. Must never import a service: it is the second opinion on what they decided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from groupbuy.payments.v1.decisions_pb2 import OPERATION_SALE, PaymentDecision

from ops.audit.chain import Chain
from ops.audit.findings import Findings, Invariant
from ops.audit.money.holds import Hold, Payment


class PurseFold:
    """A purse as its decisions tell it."""

    __slots__ = ("_cause", "_findings", "chain", "key", "payments")

    def __init__(self, key: str, findings: Findings) -> None:
        self.key = key
        self.chain = Chain()
        self.payments: dict[str, Payment] = {}
        self._findings = findings
        self._cause = -1

    def take(self, value: bytes, decision: PaymentDecision, log_trimmed: bool) -> bool:
        """Folds the next record of the purse. Returns False for a repeat."""
        if not self.chain.take(value, decision, log_trimmed, self._complain):
            return False
        if self.chain.trimmed:
            return True
        self._cause = decision.cause
        if not decision.events:
            self._complain(Invariant.VERSIONS, f"version {decision.version} holds no event")
        for event in decision.events:
            body = event.WhichOneof("body")
            if body is None:
                self._complain(Invariant.VERSIONS, f"version {decision.version} holds an event of no known kind")
                continue
            _HANDLERS[body](self, getattr(event, body))
        return True

    def _payment(self, order: str) -> Payment:
        payment = self.payments.get(order)
        if payment is None:
            payment = self.payments[order] = Payment()
        return payment

    def _hold(self, event: Any, what: str) -> Hold | None:
        """The hold that an event is about; None, and a complaint, where there is none."""
        hold = self._payment(event.order).holds.get(event.hold)
        if hold is None:
            self._complain(
                Invariant.HELD_IS_ACCOUNTED_FOR, f"{what} of hold {event.hold}, which was never authorised", event.order
            )
        return hold

    # --- holding -----------------------------------------------------------------------------------------------------

    def _hold_requested(self, event: Any) -> None:
        call = event.call
        payment = self._payment(call.order)
        if payment.released:
            self._complain(Invariant.ENDS_IN_TIME, "asks for money after the order was let go", call.order)
        if payment.asks and any(hold.open or hold.kept for hold in payment.holds.values()):
            self._complain(Invariant.ONE_CAPTURE, "asks for money a second time while it has some", call.order)
        if not payment.asks:
            payment.ask_minor, payment.currency = call.amount_minor, call.currency
        payment.asks += 1
        payment.pending.add("hold")

    def _hold_authorised(self, event: Any) -> None:
        payment = self._payment(event.order)
        payment.pending.discard("hold")
        if event.hold in payment.holds:
            self._complain(Invariant.HELD_IS_ACCOUNTED_FOR, f"hold {event.hold} authorised twice", event.order)
            return
        sale = event.operation == OPERATION_SALE
        payment.holds[event.hold] = Hold(event.order, event.amount_minor, event.currency, sale)

    def _hold_declined(self, event: Any) -> None:
        payment = self._payment(event.order)
        payment.pending.discard("hold")
        payment.failed = True

    # --- taking ------------------------------------------------------------------------------------------------------

    def _capture_requested(self, event: Any) -> None:
        payment = self._payment(event.call.order)
        if payment.capture_cause < 0:
            payment.capture_cause = self._cause
        payment.capture_minor = event.call.amount_minor
        payment.pending.add("capture")

    def _captured(self, event: Any) -> None:
        payment = self._payment(event.order)
        payment.pending.discard("capture")
        if payment.capture_cause < 0:
            # A sale needs no call to settle: the decision itself is the moment.
            payment.capture_cause, payment.capture_minor = self._cause, event.amount_minor
        hold = self._hold(event, "capture")
        if hold is None:
            return
        hold.captures += 1
        if hold.captures > 1 or any(other.captures for other in payment.holds.values() if other is not hold):
            self._complain(Invariant.ONE_CAPTURE, f"captured again, {event.amount_minor} of {event.hold}", event.order)
            return
        if event.amount_minor > hold.held:
            self._complain(
                Invariant.RIGHT_AMOUNT, f"captured {event.amount_minor} of a hold of {hold.held}", event.order
            )
        if hold.sale:
            # Taken when it was authorised; what is not kept was given back, and is checked against that.
            hold.kept = event.amount_minor
            return
        if event.amount_minor + event.released_minor != hold.held or hold.released:
            self._complain(
                Invariant.HELD_IS_ACCOUNTED_FOR,
                f"captured {event.amount_minor} and let go {event.released_minor + hold.released} of {hold.held}",
                event.order,
            )
        hold.kept = hold.captured = event.amount_minor
        hold.released += event.released_minor

    def _capture_declined(self, event: Any) -> None:
        payment = self._payment(event.order)
        payment.pending.discard("capture")
        # The hold is not over by this: it has to be let go, and seen to be.
        payment.failed = True

    # --- letting go --------------------------------------------------------------------------------------------------

    def _action_required(self, event: Any) -> None:
        self._payment(event.order).unconfirmed.add(event.hold)

    def _void_requested(self, event: Any) -> None:
        if event.call.hold:
            self._payment(event.call.order).pending.add(f"void {event.call.hold}")

    def _voided(self, event: Any) -> None:
        self._let_go(event, "void")

    def _hold_lapsed(self, event: Any) -> None:
        self._payment(event.order).pending.discard("capture")
        self._let_go(event, "lapse")

    def _let_go(self, event: Any, what: str) -> None:
        payment = self._payment(event.order)
        payment.pending.discard(f"void {event.hold}")
        if event.hold in payment.unconfirmed and event.hold not in payment.holds:
            # Its owner never confirmed it: there was no money in it.
            payment.pending.discard("hold")
            return
        hold = self._hold(event, what)
        if hold is None:
            return
        if event.amount_minor != hold.open or hold.sale:
            self._complain(
                Invariant.HELD_IS_ACCOUNTED_FOR, f"{what} of {event.amount_minor}, {hold.open} were held", event.order
            )
        hold.released += event.amount_minor

    def _payment_released(self, event: Any) -> None:
        payment = self._payment(event.order)
        if payment.released:
            self._complain(Invariant.ONE_END_OF_ORDER, "let go twice", event.order)
        payment.released = True
        payment.pending.discard("hold")
        for reference, hold in payment.holds.items():
            if left := hold.open or hold.captured - hold.refunded:
                self._complain(
                    Invariant.HELD_IS_ACCOUNTED_FOR, f"let go, but {left} of hold {reference} are not", event.order
                )

    # --- giving back -------------------------------------------------------------------------------------------------

    def _refund_requested(self, event: Any) -> None:
        payment = self._payment(event.call.order)
        hold = payment.holds.get(event.call.hold)
        if hold is not None and hold.suspense and not hold.captured:
            # Money that nobody asked for turns out to have been taken, and goes back.
            hold.captured = hold.suspense
        payment.refunds.add(event.call.refund)
        payment.pending.add(f"refund {event.call.refund}")

    def _refunded(self, event: Any) -> None:
        self._payment(event.order).pending.discard(f"refund {event.refund}")
        hold = self._hold(event, "refund")
        if hold is None:
            return
        hold.refunded += event.amount_minor
        if not event.refund:
            hold.own_refunds += event.amount_minor
        if hold.refunded > hold.captured:
            self._complain(
                Invariant.REFUNDS_WITHIN_CAPTURES, f"gave back {hold.refunded} of {hold.captured} taken", event.order
            )

    def _refund_declined(self, event: Any) -> None:
        payment = self._payment(event.order)
        payment.refunds.add(event.refund)
        payment.pending.discard(f"refund {event.refund}")
        if not event.refund:
            self._findings.alarm(
                f"group {self.key} order {event.order}: {event.amount_minor} could not be given back: {event.reason}"
            )

    # --- the rest ----------------------------------------------------------------------------------------------------

    def _suspense(self, event: Any) -> None:
        payment = self._payment(event.order)
        hold = payment.holds.get(event.hold)
        if hold is None:
            if event.amount_minor:
                hold = payment.holds[event.hold] = Hold(event.order, event.amount_minor, event.currency, sale=False)
                hold.suspense = event.amount_minor
        else:
            # Taken from a hold that had been let go, or beyond what was asked for.
            hold.released -= event.amount_minor
            hold.captured += event.amount_minor
        self._findings.alarm(
            f"group {self.key} order {event.order}: {event.amount_minor} {event.currency} that nobody asked for, "
            f"hold {event.hold}: {event.reason}"
        )

    def _faulted(self, event: Any) -> None:
        self._findings.alarm(f"purse {self.key}: the rules failed with {event.error}")

    def _nothing(self, event: Any) -> None:
        """Moves no money."""

    def _complain(self, invariant: Invariant, what: str, order: str = "") -> None:
        self._findings.breach(invariant, self.key, order, what)


_HANDLERS: dict[str, Callable[[PurseFold, Any], None]] = {
    "hold_requested": PurseFold._hold_requested,
    "action_required": PurseFold._action_required,
    "hold_authorised": PurseFold._hold_authorised,
    "hold_declined": PurseFold._hold_declined,
    "capture_requested": PurseFold._capture_requested,
    "captured": PurseFold._captured,
    "capture_declined": PurseFold._capture_declined,
    "void_requested": PurseFold._void_requested,
    "voided": PurseFold._voided,
    "hold_lapsed": PurseFold._hold_lapsed,
    "refund_requested": PurseFold._refund_requested,
    "refunded": PurseFold._refunded,
    "refund_declined": PurseFold._refund_declined,
    "payment_released": PurseFold._payment_released,
    "call_deferred": PurseFold._nothing,
    "call_retried": PurseFold._nothing,
    "suspense_recorded": PurseFold._suspense,
    "faulted": PurseFold._faulted,
}
