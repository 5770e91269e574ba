"""Applies payment events to the state. Total over every event that `decide` yields; it raises nothing.

A fold of the decision log gives the very state on which the decisions were made.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, TypeAlias

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent, ProviderCall

from services.payments.domain.evolve_provider_life import FOLDS as PROVIDER_LIFE
from services.payments.domain.evolve_provider_life import fold_action
from services.payments.domain.model import (
    COUNTERS,
    HOLD_ENDING,
    HOLD_OPENING,
    AbandonedRefund,
    Call,
    GroupPayments,
    Hold,
    Intent,
    Payment,
    Record,
    Refund,
    RefundStatus,
    reopened,
)
from services.payments.domain.provider_life import NEVER_MS, PaidRefund, TimerKind, owed_key
from services.payments.domain.rules_version import FIRST

#: Applies an event's body, a message of decisions.proto, to the payment of its order.
Fold: TypeAlias = Callable[[Payment, Any], None]


def evolve(payments: GroupPayments, event: PaymentEvent) -> None:
    """Applies one event in place."""
    kind = event.WhichOneof("body")
    if kind == "rules_selected":
        payments.rules_version = event.rules_selected.rules_version
        return
    if not payments.rules_version:
        payments.rules_version = FIRST
    if kind is None or kind == "faulted":
        return
    body = getattr(event, kind)
    if kind == "operator_acted":
        fold_action(payments, body)
        return
    order = body.call.order if kind in _WITH_CALL else body.order
    payment = _open(payments.orders, order)
    _FOLDS[kind](payment, body)
    if kind == "call_deferred":
        heapq.heappush(payments.retries, (body.retry_at_ms, order, body.operation, body.attempt))
    elif kind == "money_owed" and body.next_attempt_ms:
        timer = (body.next_attempt_ms, order, int(TimerKind.OWED), owed_key(body.hold, body.refund))
        heapq.heappush(payments.timers, timer)
    elif kind == "suspense_recorded" and body.return_at_ms:
        heapq.heappush(payments.timers, (body.return_at_ms, order, int(TimerKind.SUSPENSE), body.hold))
    if payment.finished():
        payments.orders[order] = payment.to_record()
    payments.drop_stale_retries()


def _open(orders: dict[str, Record | Payment], order: str) -> Payment:
    found = orders.get(order)
    if isinstance(found, Payment):
        return found
    payment = orders[order] = Payment() if found is None else reopened(found)
    return payment


# Pending calls ------------------------------------------------------------------------------------------------------


def _add_call(payment: Payment, made: ProviderCall) -> Call:
    operation, attempt = made.operation, made.attempt
    counter = COUNTERS[operation]
    setattr(payment, counter, max(getattr(payment, counter), attempt))
    call = Call(operation, attempt, made.amount_minor, made.hold, made.refund, approved=made.approved)
    payment.calls[operation, attempt] = call
    return call


def _drop_calls(payment: Payment, operations: frozenset[Any], hold: str | None = None) -> None:
    """Removes the pending calls of these operations, or only those about one hold."""
    for name, call in list(payment.calls.items()):
        if call.operation in operations and (hold is None or call.hold == hold):
            del payment.calls[name]


def _clear_action(payment: Payment) -> None:
    payment.action_url = payment.action_hold = ""


def _call_deferred(payment: Payment, body: pb.CallDeferred) -> None:
    call = payment.calls.get((body.operation, body.attempt))
    if call is not None:
        call.retry_at_ms = body.retry_at_ms
        call.deferrals = body.deferrals


def _call_retried(payment: Payment, body: pb.CallRetried) -> None:
    """The call itself, its next attempt, or a refund attempt that was abandoned by mistake."""
    made = body.call
    pending = payment.calls.get((made.operation, made.attempt))
    if pending is not None:
        if pending.retry_at_ms == NEVER_MS:
            # An operator retries a call that was given up: its pauses start anew.
            pending.deferrals = 0
        pending.retry_at_ms = 0
        pending.approved = made.approved
        return
    if made.operation == pb.OPERATION_REFUND and (payment.abandoned or {}).pop(made.attempt, None) is not None:
        # RefundDeclined ended this attempt in place of another one.
        payment.holds[made.hold].owed -= made.amount_minor
        payment.owed -= made.amount_minor
    # The next attempt replaces the one before: one purpose has one pending call.
    deferrals = 0
    for name, call in list(payment.calls.items()):
        if call.operation == made.operation and call.hold == made.hold and call.refund == made.refund:
            del payment.calls[name]
            deferrals = call.deferrals
            if made.operation == pb.OPERATION_REFUND:
                _abandon(payment, call)
            elif made.operation in HOLD_OPENING:
                # The confirmation belonged to the attempt before; voiding its hold does not end the new attempt.
                _clear_action(payment)
    _add_call(payment, made).deferrals = deferrals


def _abandon(payment: Payment, call: Call) -> None:
    if payment.abandoned is None:
        payment.abandoned = {}
    payment.abandoned[call.attempt] = AbandonedRefund(call.hold, call.refund)


# Authorisation ------------------------------------------------------------------------------------------------------


def _hold_requested(payment: Payment, body: pb.HoldRequested) -> None:
    made = body.call
    if payment.intent is Intent.NONE:
        payment.intent = Intent.HOLD
        payment.sale = made.operation == pb.OPERATION_SALE
        payment.amount = made.amount_minor
        payment.currency = made.currency
        payment.method = made.payment_method
        payment.customer = made.customer
        payment.hold_until_ms = made.hold_until_ms
    else:
        payment.renewed = True
        payment.intent = Intent.CAPTURE
        payment.to_capture = made.amount_minor
    _add_call(payment, made)


def _action_required(payment: Payment, body: pb.ActionRequired) -> None:
    payment.action_url = body.action_url
    payment.action_hold = body.hold


def _hold_authorised(payment: Payment, body: pb.HoldAuthorised) -> None:
    payment.calls.pop((body.operation, body.attempt), None)
    _clear_action(payment)
    payment.hold = body.hold
    payment.lapsed = False
    hold = payment.holds.setdefault(body.hold, Hold(body.currency))
    if body.operation == pb.OPERATION_SALE:
        hold.taken = body.amount_minor
        # Taken money can't be voided, only refunded.
        _drop_calls(payment, HOLD_ENDING, body.hold)
    else:
        hold.held = body.amount_minor
        hold.capture_before_ms = body.capturable_until_ms


def _decline(payment: Payment, reason: str) -> None:
    payment.declined = True
    payment.reason = reason
    _drop_calls(payment, HOLD_OPENING)
    _clear_action(payment)


def _hold_declined(payment: Payment, body: pb.HoldDeclined) -> None:
    # The hold that the confirmation was to open does not exist, so its void is obsolete.
    if payment.action_hold:
        _drop_calls(payment, HOLD_ENDING, payment.action_hold)
    _decline(payment, body.reason)


# Capture ------------------------------------------------------------------------------------------------------------


def _capture_requested(payment: Payment, body: pb.CaptureRequested) -> None:
    payment.intent = Intent.CAPTURE
    payment.to_capture = body.call.amount_minor
    _add_call(payment, body.call)


def _captured(payment: Payment, body: pb.Captured) -> None:
    if payment.intent is Intent.HOLD:
        # A sale is settled at exactly the amount that it took.
        payment.intent = Intent.CAPTURE
        payment.to_capture = body.amount_minor
    payment.captured = body.amount_minor
    hold = payment.holds.setdefault(body.hold, Hold(body.currency))
    if not payment.sale:
        hold.held = 0
        hold.taken += body.amount_minor
    if payment.external:
        # Persons returned more than the difference to the charge: the rest is a refund of the charge.
        above = max(hold.returned - (hold.taken - body.amount_minor), 0)
        payment.refunded += above
        hold.returned -= above
    _drop_calls(payment, HOLD_ENDING, body.hold)


def _capture_declined(payment: Payment, body: pb.CaptureDeclined) -> None:
    _drop_calls(payment, frozenset({pb.OPERATION_CAPTURE}))
    _decline(payment, body.reason)


# Release ------------------------------------------------------------------------------------------------------------


def _void_requested(payment: Payment, body: pb.VoidRequested) -> None:
    made = body.call
    reference = made.hold
    if not reference:
        payment.intent = Intent.RELEASE
        return
    if payment.intent is Intent.HOLD and not payment.declined and reference in (payment.hold, payment.action_hold):
        payment.intent = Intent.RELEASE
    hold = payment.holds.setdefault(reference, Hold(made.currency))
    hold.held += hold.suspense
    hold.suspense = hold.return_at_ms = 0
    # A void follows a capture of the same hold only after the capture was declined for good.
    _drop_calls(payment, HOLD_ENDING, reference)
    _add_call(payment, made)


def _end_hold(payment: Payment, reference: str) -> None:
    hold = payment.holds.get(reference)
    if hold is not None:
        hold.held = 0
        if not hold.suspense_taken:
            hold.suspense = 0
    _drop_calls(payment, HOLD_ENDING, reference)
    if reference == payment.action_hold:
        _drop_calls(payment, HOLD_OPENING)
        _clear_action(payment)


def _voided(payment: Payment, body: pb.Voided) -> None:
    _end_hold(payment, body.hold)


def _hold_lapsed(payment: Payment, body: pb.HoldLapsed) -> None:
    _end_hold(payment, body.hold)
    if body.hold == payment.hold:
        payment.lapsed = True


def _payment_released(payment: Payment, body: pb.PaymentReleased) -> None:
    payment.intent = Intent.RELEASE
    payment.released = True
    _drop_calls(payment, HOLD_OPENING)
    _clear_action(payment)


# Refunds and unexpected funds ---------------------------------------------------------------------------------------


def _refund_requested(payment: Payment, body: pb.RefundRequested) -> None:
    """For money in suspense, the request shows that the money was taken."""
    made = body.call
    hold = payment.holds.setdefault(made.hold, Hold(made.currency))
    if hold.suspense:
        hold.taken += hold.suspense
        hold.suspense = hold.return_at_ms = 0
        hold.unexpected = True
    debt = payment.debt(made.hold, made.refund)
    if debt is not None:
        debt.next_ms = 0
        debt.alarm = False
    if made.refund:
        refunds = payment.refunds = payment.refunds or {}
        refunds[made.refund] = Refund(RefundStatus.PENDING, made.amount_minor, body.request_sha256, sent=True)
    elif payment.sale and payment.intent is Intent.HOLD and made.hold == payment.hold:
        # A release refunds all of a sale, its settlement only a part.
        payment.intent = Intent.RELEASE if made.amount_minor >= hold.taken else Intent.CAPTURE
        payment.to_capture = hold.taken - hold.returned - payment.disputed(made.hold) - made.amount_minor
    _add_call(payment, made)


def _refunded(payment: Payment, body: pb.Refunded) -> None:
    late = False
    pending = payment.pending_refund(body.hold, body.refund)
    if body.attempt:
        payment.calls.pop((pb.OPERATION_REFUND, body.attempt), None)
        (payment.abandoned or {}).pop(body.attempt, None)
        paid = payment.paid = payment.paid or {}
        paid[body.attempt] = PaidRefund(body.hold, body.refund, body.amount_minor)
    else:
        if pending is not None:
            del payment.calls[pending.operation, pending.attempt]
        # A refund happens once: later reports of its abandoned attempts are about this same money.
        late = _drop_abandoned(payment, body.hold, body.refund)
    if body.refund:
        payment.refunded += body.amount_minor
        if payment.refunds is not None and body.refund in payment.refunds:
            payment.refunds[body.refund].status = RefundStatus.SUCCEEDED
        return
    hold = payment.holds.setdefault(body.hold, Hold(body.currency))
    hold.returned += body.amount_minor
    if pending is None and late:
        hold.owed = max(hold.owed - body.amount_minor, 0)
        payment.owed = max(payment.owed - body.amount_minor, 0)


def _drop_abandoned(payment: Payment, hold: str, refund: str) -> bool:
    abandoned = payment.abandoned or {}
    left = {attempt: one for attempt, one in abandoned.items() if (one.hold, one.refund) != (hold, refund)}
    payment.abandoned = left or None
    return len(left) < len(abandoned)


def _refund_declined(payment: Payment, body: pb.RefundDeclined) -> None:
    """A declined command is final; without a command, the amount is owed to the customer."""
    if body.attempt:
        call = payment.calls.get((pb.OPERATION_REFUND, body.attempt))
    else:
        call = payment.declined_refund(body.refund, body.amount_minor)
    if call is not None:
        del payment.calls[call.operation, call.attempt]
        _abandon(payment, call)
        if not body.refund and not body.attempt:
            payment.holds[call.hold].owed += call.amount
            payment.owed += call.amount
    if body.refund:
        refunds = payment.refunds = payment.refunds or {}
        owed = body.attempt and call is not None and payment.debt(call.hold, body.refund) is not None
        refunds[body.refund] = Refund(
            RefundStatus.REVERSED if owed else RefundStatus.DECLINED,
            body.amount_minor,
            body.request_sha256,
            body.reason,
            sent=body.refund in refunds,
        )


def _suspense_recorded(payment: Payment, body: pb.SuspenseRecorded) -> None:
    """The request that follows shows whether the money is held or taken."""
    if body.hold == payment.action_hold:
        # This money is returned whatever the intent; a confirmation opens another hold.
        _clear_action(payment)
    if not payment.method:
        # An order that was never requested: the refund goes to the provider that reported the money.
        payment.method = body.payment_method
    if body.amount_minor:
        hold = payment.holds.setdefault(body.hold, Hold(body.currency))
        if not hold.held and not hold.taken and not hold.suspense:
            # An empty hold: the new money may be in another currency.
            hold.currency = body.currency
        hold.suspense += body.amount_minor
        if body.return_at_ms:
            hold.return_at_ms = body.return_at_ms
            hold.suspense_taken = body.taken
            hold.stray = True
            hold.unexpected = hold.unexpected or body.taken


#: Events that hold a whole call, and the order in it.
_WITH_CALL = frozenset({"hold_requested", "capture_requested", "void_requested", "refund_requested", "call_retried"})
_FOLDS: dict[str, Fold] = {
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
    "refund_requested": _refund_requested,
    "refunded": _refunded,
    "refund_declined": _refund_declined,
    "payment_released": _payment_released,
    "call_deferred": _call_deferred,
    "call_retried": _call_retried,
    "suspense_recorded": _suspense_recorded,
    **PROVIDER_LIFE,
}
