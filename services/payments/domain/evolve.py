"""What each event changes. Total over everything that decide ever yields, and never raises. Must never decide.

Everything that a purse knows comes from here, so a fold of the log gives the very state that was decided on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, TypeAlias

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain import pending_calls, refunds
from services.payments.domain.model import GroupPayments, Payment, Record, grown
from services.payments.domain.model_parts import ASKING, ENDING, Hold, Intent

#: A body's change to its order. Bodies are messages of decisions.proto.
Fold: TypeAlias = Callable[[Payment, Any], None]


def evolve(purse: GroupPayments, event: PaymentEvent) -> None:
    """Applies one event in place."""
    kind = event.WhichOneof("body")
    if kind is None or kind == "faulted":
        return
    body = getattr(event, kind)
    order = body.call.order if kind in _CALLS else body.order
    payment = _opened(purse.orders, order)
    _FOLDS[kind](payment, body)
    if kind == "call_deferred":
        heapq.heappush(purse.retries, (body.retry_at_ms, order, body.operation, body.attempt))
    if payment.over():
        purse.orders[order] = payment.shrunk()
    purse.drop_stale()


def _opened(orders: dict[str, Record], order: str) -> Payment:
    found = orders.get(order)
    if isinstance(found, Payment):
        return found
    payment = orders[order] = Payment() if found is None else grown(found)
    return payment


# Holding ------------------------------------------------------------------------------------------------------------


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
    pending_calls.ask(payment, made)


def _action_required(payment: Payment, body: pb.ActionRequired) -> None:
    payment.action_url = body.action_url
    payment.action_hold = body.hold


def _hold_authorised(payment: Payment, body: pb.HoldAuthorised) -> None:
    payment.calls.pop((body.operation, body.attempt), None)
    pending_calls.forget_action(payment)
    payment.hold = body.hold
    payment.lapsed = False
    hold = payment.holds.setdefault(body.hold, Hold(body.currency))
    if body.operation == pb.OPERATION_SALE:
        hold.taken = body.amount_minor
        # What is taken can't be let go, only given back.
        pending_calls.drop(payment, ENDING, body.hold)
    else:
        hold.held = body.amount_minor


def _refuse(payment: Payment, reason: str) -> None:
    payment.refused = True
    payment.reason = reason
    pending_calls.drop(payment, ASKING)
    pending_calls.forget_action(payment)


def _hold_declined(payment: Payment, body: pb.HoldDeclined) -> None:
    # The hold that was to come of a confirmation never came to be, so nothing is left to let go.
    if payment.action_hold:
        pending_calls.drop(payment, ENDING, payment.action_hold)
    _refuse(payment, body.reason)


# Taking -------------------------------------------------------------------------------------------------------------


def _capture_requested(payment: Payment, body: pb.CaptureRequested) -> None:
    payment.intent = Intent.CAPTURE
    payment.to_capture = body.call.amount_minor
    pending_calls.ask(payment, body.call)


def _captured(payment: Payment, body: pb.Captured) -> None:
    if payment.intent is Intent.HOLD:
        # A sale that settles at the very amount that was taken.
        payment.intent = Intent.CAPTURE
        payment.to_capture = body.amount_minor
    payment.captured = body.amount_minor
    if not payment.sale:
        hold = payment.holds.setdefault(body.hold, Hold(body.currency))
        hold.held = 0
        hold.taken += body.amount_minor
    pending_calls.drop(payment, ENDING, body.hold)


def _capture_declined(payment: Payment, body: pb.CaptureDeclined) -> None:
    pending_calls.drop(payment, frozenset({pb.OPERATION_CAPTURE}))
    _refuse(payment, body.reason)


# Letting go ---------------------------------------------------------------------------------------------------------


def _void_requested(payment: Payment, body: pb.VoidRequested) -> None:
    made = body.call
    reference = made.hold
    if not reference:
        payment.intent = Intent.RELEASE
        return
    if payment.intent is Intent.HOLD and not payment.refused and reference in (payment.hold, payment.action_hold):
        payment.intent = Intent.RELEASE
    hold = payment.holds.setdefault(reference, Hold(made.currency))
    hold.held += hold.suspense
    hold.suspense = 0
    # Only a capture that was refused for good is followed by a void.
    pending_calls.drop(payment, ENDING, reference)
    pending_calls.ask(payment, made)


def _hold_over(payment: Payment, reference: str) -> None:
    hold = payment.holds.get(reference)
    if hold is not None:
        hold.held = 0
    pending_calls.drop(payment, ENDING, reference)
    if reference == payment.action_hold:
        pending_calls.drop(payment, ASKING)
        pending_calls.forget_action(payment)


def _voided(payment: Payment, body: pb.Voided) -> None:
    _hold_over(payment, body.hold)


def _hold_lapsed(payment: Payment, body: pb.HoldLapsed) -> None:
    _hold_over(payment, body.hold)
    if body.hold == payment.hold:
        payment.lapsed = True


def _payment_released(payment: Payment, body: pb.PaymentReleased) -> None:
    payment.intent = Intent.RELEASE
    payment.released = True
    pending_calls.drop(payment, ASKING)
    pending_calls.forget_action(payment)


_CALLS = frozenset({"hold_requested", "capture_requested", "void_requested", "refund_requested", "call_retried"})
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
    "refund_requested": refunds.refund_requested,
    "refunded": refunds.refunded,
    "refund_declined": refunds.refund_declined,
    "payment_released": _payment_released,
    "call_deferred": pending_calls.call_deferred,
    "call_retried": pending_calls.call_retried,
    "suspense_recorded": refunds.suspense_recorded,
}
