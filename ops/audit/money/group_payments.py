"""The payments of one group, folded from payments.payment.v1 and checked event by event.

The fold reads the decisions alone and imports no service (an import contract in pyproject.toml): it is a second opinion
on what the payment rules decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from groupbuy.payments.v1.decisions_pb2 import (
    OPERATION_AUTHORISE,
    OPERATION_REFUND,
    OPERATION_SALE,
    PaymentDecision,
)

from ops.audit.chain import apply_events
from ops.audit.findings import Invariant
from ops.audit.money.holds import Hold, Intent, Payment
from ops.audit.money.provider_life import ProviderLife, call_name
from ops.audit.money.refunds import add_refund, owed_key

_HOLD_OPENING = (OPERATION_AUTHORISE, OPERATION_SALE)


class GroupPaymentsFold(ProviderLife):
    """The payments of one group."""

    __slots__ = ()

    def take(self, value: bytes, decision: PaymentDecision, log_trimmed: bool) -> bool:
        """Folds the next decision of the group. Returns False for a duplicate."""
        if not self.chain.take(value, decision, log_trimmed, self._violation):
            return False
        if self.chain.trimmed:
            return True
        self._cause = decision.cause
        self._at_ms = decision.time_ms
        if self._reached or self._commands:
            self._reached.clear()
            self._commands.clear()
        apply_events(self, self._HANDLERS, decision, decision.events[:], self._violation)
        if self._reversed:
            self._check_reversed()
            self._reversed.clear()
        if self._unattended:
            self._check_unattended()
            self._unattended.clear()
        if self._ended:
            self._check_ended()
            self._ended.clear()
        return True

    # --- authorisation -----------------------------------------------------------------------------------------------

    def _hold_requested(self, event: Any) -> None:
        call = event.call
        payment = self._payment(call.order)
        if payment.released:
            self._violation(Invariant.ENDS_IN_TIME, "a hold is requested after the release", call.order)
        if payment.hold_requests and any(
            not hold.unexpected and (hold.open or hold.kept) for hold in payment.holds.values()
        ):
            self._violation(Invariant.ONE_CAPTURE, "a second hold is requested beside an open one", call.order)
        if not payment.hold_requests:
            payment.requested_minor, payment.currency = call.amount_minor, call.currency
        payment.hold_requests += 1
        payment.renewed_minor = call.amount_minor
        if payment.intent is Intent.NONE:
            payment.intent = Intent.HOLD
            payment.sale = call.operation == OPERATION_SALE
        else:
            payment.intent = Intent.CAPTURE
        payment.pending["hold"] = self._at_ms
        payment.method = call.payment_method
        payment.hold_attempt, payment.hold_deferred = call.attempt, False

    def _action_required(self, event: Any) -> None:
        payment = self._payment(event.order)
        payment.action_url, payment.action_hold = event.action_url, event.hold
        payment.unconfirmed.add(event.hold)

    def _hold_authorised(self, event: Any) -> None:
        payment = self._payment(event.order)
        _end_request(payment)
        payment.hold = event.hold
        if event.hold in payment.holds:
            self._violation(Invariant.HELD_IS_ACCOUNTED_FOR, f"hold {event.hold} is authorised twice", event.order)
            return
        if any(hold.open > 0 and not hold.unexpected for hold in payment.holds.values()):
            self._violation(Invariant.ONE_CAPTURE, f"hold {event.hold} is authorised beside an open one", event.order)
        sale = event.operation == OPERATION_SALE
        if sale:
            # Taken money can't be voided, only refunded.
            payment.pending.pop(f"void {event.hold}", None)
        payment.holds[event.hold] = Hold(
            event.order,
            event.amount_minor,
            event.currency,
            sale,
            captured=event.amount_minor if sale else 0,
            authorised_ms=self._at_ms,
            capturable_until_ms=event.capturable_until_ms,
        )

    def _hold_declined(self, event: Any) -> None:
        payment = self._payment(event.order)
        if payment.action_hold:
            payment.pending.pop(f"void {payment.action_hold}", None)
        _end_request(payment)
        payment.failed = True

    # --- capture -----------------------------------------------------------------------------------------------------

    def _capture_requested(self, event: Any) -> None:
        payment = self._payment(event.call.order)
        if payment.capture_cause < 0:
            payment.capture_cause = self._cause
        payment.intent = Intent.CAPTURE
        payment.capture_minor = event.call.amount_minor
        hold = payment.holds.get(event.call.hold)
        if hold is None or not 0 < event.call.amount_minor <= hold.open:
            what = f"a capture of {event.call.amount_minor} is requested, {hold.open if hold else 0} is held"
            self._violation(Invariant.RIGHT_AMOUNT, what, event.call.order)
        payment.pending["capture"] = self._at_ms

    def _captured(self, event: Any) -> None:
        payment = self._payment(event.order)
        payment.pending.pop("capture", None)
        payment.pending.pop(f"void {event.hold}", None)
        payment.captured = True
        if payment.intent is Intent.HOLD:
            payment.intent = Intent.CAPTURE
        hold = self._hold(event, "capture")
        if hold is not None and hold.sale and payment.capture_cause < 0:
            # A sale is settled without a call, by this decision.
            payment.capture_cause, payment.capture_minor = self._cause, event.amount_minor
        elif payment.capture_cause < 0:
            payment.unasked_cause = self._cause
        if hold is None:
            return
        hold.captures += 1
        if hold.captures > 1 or any(other.captures for other in payment.holds.values() if other is not hold):
            self._violation(
                Invariant.ONE_CAPTURE, f"captured a second time, {event.amount_minor} of {event.hold}", event.order
            )
            return
        if event.amount_minor > hold.held:
            self._violation(
                Invariant.RIGHT_AMOUNT, f"captured {event.amount_minor} of a hold of {hold.held}", event.order
            )
        if hold.sale:
            # The sale took the money; what is not kept was refunded, which the checks across logs compare.
            hold.kept = event.amount_minor
            by_hand = [name for name in payment.references if name.startswith("operation ")]
            # More than the difference was returned by persons or disputes: the rest is a refund of the charge.
            above = hold.charge_back(by_hand=bool(by_hand))
            if by_hand:
                payment.references[by_hand[-1]] += above
            if owed_key(event.hold, "") in payment.debts:
                self._violation(Invariant.OWED, "charged, but the difference to the sale is owed", event.order)
            return
        if event.amount_minor + event.released_minor != hold.held or hold.released:
            self._violation(
                Invariant.HELD_IS_ACCOUNTED_FOR,
                f"captured {event.amount_minor} and released {event.released_minor + hold.released} of {hold.held}",
                event.order,
            )
        hold.captured = event.amount_minor
        # A capture of a payment that is being released is returned.
        hold.kept = 0 if payment.intent is Intent.RELEASE else event.amount_minor
        hold.released += event.released_minor

    def _capture_declined(self, event: Any) -> None:
        payment = self._payment(event.order)
        payment.pending.pop("capture", None)
        _end_request(payment)
        # The hold is still open: its release follows.
        payment.failed = True

    # --- release -----------------------------------------------------------------------------------------------------

    def _void_requested(self, event: Any) -> None:
        call = event.call
        payment = self._payment(call.order)
        if not call.hold:
            payment.intent = Intent.RELEASE
            return
        hold = payment.holds.get(call.hold)
        if hold is not None:
            hold.void_requested = True
        own = call.hold in (payment.hold, payment.action_hold)
        if own and payment.intent is Intent.HOLD and not payment.failed:
            payment.intent = Intent.RELEASE
        if call.hold == payment.hold:
            payment.pending.pop("capture", None)
        payment.pending[f"void {call.hold}"] = self._at_ms

    def _voided(self, event: Any) -> None:
        self._end_hold(event, "void")

    def _hold_lapsed(self, event: Any) -> None:
        self._end_hold(event, "lapse")

    def _end_hold(self, event: Any, what: str) -> None:
        payment = self._payment(event.order)
        payment.pending.pop(f"void {event.hold}", None)
        if event.hold == payment.hold:
            payment.pending.pop("capture", None)
        if event.hold == payment.action_hold:
            _end_request(payment)
        if event.hold in payment.unconfirmed and event.hold not in payment.holds:
            # The shopper did not confirm it, so it held no money.
            return
        hold = self._hold(event, what)
        if hold is None:
            return
        if event.amount_minor != hold.open or hold.sale:
            self._violation(
                Invariant.HELD_IS_ACCOUNTED_FOR, f"{what} of {event.amount_minor}, {hold.open} were held", event.order
            )
        hold.released += event.amount_minor
        if what == "lapse":
            hold.lapsed += event.amount_minor

    def _payment_released(self, event: Any) -> None:
        payment = self._payment(event.order)
        if payment.released:
            self._violation(Invariant.ONE_END_OF_ORDER, "released twice", event.order)
        payment.intent = Intent.RELEASE
        payment.released = True
        _end_request(payment)
        if owed := payment.owed:
            self._violation(Invariant.OWED, f"released, but {owed} are owed", event.order)
        for reference, hold in payment.holds.items():
            left = hold.open or hold.merchants - hold.charge_refunds
            # Lost disputes may return what was refunded before.
            if left > 0 or (left and not hold.lost):
                self._violation(
                    Invariant.HELD_IS_ACCOUNTED_FOR, f"released, but {left} of hold {reference} are not", event.order
                )

    # --- other events ------------------------------------------------------------------------------------------------

    def _call_deferred(self, event: Any) -> None:
        payment = self._payment(event.order)
        if event.operation in _HOLD_OPENING:
            payment.hold_deferred = True
        if event.alarm:
            payment.alarms[call_name(event)] = event.error

    def _call_retried(self, event: Any) -> None:
        call = event.call
        payment = self._payment(call.order)
        payment.alarms.pop(call_name(call), None)
        if call.operation in _HOLD_OPENING:
            payment.hold_deferred = False
            if call.attempt != payment.hold_attempt:
                # The confirmation belonged to the attempt before.
                payment.hold_attempt = call.attempt
                payment.action_url = payment.action_hold = ""
        elif call.operation == OPERATION_REFUND:
            payment.returns.pop(call.hold, None)
            add_refund(payment, call, self._at_ms)

    def _faulted(self, event: Any) -> None:
        self.faulted = event.error
        self._findings.alarm(f"payments of group {self.key}: the rules failed with {event.error}")

    #: The method of each kind of event.
    _HANDLERS: ClassVar[Mapping[str, Callable[[GroupPaymentsFold, Any], None]]] = {
        **ProviderLife.REFUND_HANDLERS,
        **ProviderLife.LIFE_HANDLERS,
        "hold_requested": _hold_requested,
        "action_required": _action_required,
        "hold_authorised": _hold_authorised,
        "hold_declined": _hold_declined,
        "capture_requested": _capture_requested,
        "captured": _captured,
        "capture_declined": _capture_declined,
        "void_requested": _void_requested,
        "voided": _voided,
        "hold_lapsed": _hold_lapsed,
        "payment_released": _payment_released,
        "call_deferred": _call_deferred,
        "call_retried": _call_retried,
        "faulted": _faulted,
    }


def _end_request(payment: Payment) -> None:
    """The request of a hold, and the shopper's confirmation of it, are over."""
    payment.pending.pop("hold", None)
    payment.action_url = payment.action_hold = ""
