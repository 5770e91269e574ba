"""What each event changes. Total over everything that decide ever yields, and never raises. Must never decide.

Everything that a purse knows comes from here, so a fold of the log gives the very state that was decided on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, TypeAlias

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent, ProviderCall

from services.payments.domain.parts import ASKING, COUNTERS, ENDING, Call, GivenUp, Hold, Intent, Refund, RefundStatus
from services.payments.domain.state import Payment, Purse, Record, grown

#: A body's change to its order. Bodies are messages of decisions.proto.
Fold: TypeAlias = Callable[[Payment, Any], None]


def evolve(purse: Purse, event: PaymentEvent) -> None:
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


# Calls --------------------------------------------------------------------------------------------------------------


def _ask(payment: Payment, made: ProviderCall) -> Call:
    operation, attempt = made.operation, made.attempt
    counter = COUNTERS[operation]
    setattr(payment, counter, max(getattr(payment, counter), attempt))
    call = Call(operation, attempt, made.amount_minor, made.hold, made.refund)
    payment.calls[operation, attempt] = call
    return call


def _drop(payment: Payment, operations: frozenset[Any], hold: str | None = None) -> None:
    """Forgets calls that have no more to say: all of these operations, or those about a hold."""
    for name, call in list(payment.calls.items()):
        if call.operation in operations and (hold is None or call.hold == hold):
            del payment.calls[name]


def _call_deferred(payment: Payment, body: pb.CallDeferred) -> None:
    call = payment.calls.get((body.operation, body.attempt))
    if call is not None:
        call.retry_at_ms = body.retry_at_ms
        call.deferrals = body.deferrals


def _call_retried(payment: Payment, body: pb.CallRetried) -> None:
    made = body.call
    again = payment.calls.get((made.operation, made.attempt))
    if again is not None:
        again.retry_at_ms = 0
        return
    if made.operation == pb.OPERATION_REFUND and (payment.given_up or {}).pop(made.attempt, None) is not None:
        # It was not this one that had been declined.
        payment.holds[made.hold].owed -= made.amount_minor
        payment.owed -= made.amount_minor
    # The next attempt takes the place of the one before: there is one call for one purpose.
    deferrals = 0
    for name, call in list(payment.calls.items()):
        if call.operation == made.operation and call.hold == made.hold and call.refund == made.refund:
            del payment.calls[name]
            deferrals = call.deferrals
            if made.operation == pb.OPERATION_REFUND:
                _give_up(payment, call)
    _ask(payment, made).deferrals = deferrals


def _give_up(payment: Payment, call: Call) -> None:
    if payment.given_up is None:
        payment.given_up = {}
    payment.given_up[call.attempt] = GivenUp(call.hold, call.refund)


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
    _ask(payment, made)


def _action_required(payment: Payment, body: pb.ActionRequired) -> None:
    payment.action_url = body.action_url
    payment.action_hold = body.hold


def _no_action(payment: Payment) -> None:
    payment.action_url = payment.action_hold = ""


def _hold_authorised(payment: Payment, body: pb.HoldAuthorised) -> None:
    payment.calls.pop((body.operation, body.attempt), None)
    _no_action(payment)
    payment.hold = body.hold
    payment.lapsed = False
    hold = payment.holds.setdefault(body.hold, Hold(body.currency))
    if body.operation == pb.OPERATION_SALE:
        hold.taken = body.amount_minor
        # What is taken can't be let go, only given back.
        _drop(payment, ENDING, body.hold)
    else:
        hold.held = body.amount_minor


def _refuse(payment: Payment, reason: str) -> None:
    payment.refused = True
    payment.reason = reason
    _drop(payment, ASKING)
    _no_action(payment)


def _hold_declined(payment: Payment, body: pb.HoldDeclined) -> None:
    # The hold that was to come of a confirmation never came to be, so nothing is left to let go.
    if payment.action_hold:
        _drop(payment, ENDING, payment.action_hold)
    _refuse(payment, body.reason)


# Taking -------------------------------------------------------------------------------------------------------------


def _capture_requested(payment: Payment, body: pb.CaptureRequested) -> None:
    payment.intent = Intent.CAPTURE
    payment.to_capture = body.call.amount_minor
    _ask(payment, body.call)


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
    _drop(payment, ENDING, body.hold)


def _capture_declined(payment: Payment, body: pb.CaptureDeclined) -> None:
    _drop(payment, frozenset({pb.OPERATION_CAPTURE}))
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
    _drop(payment, ENDING, reference)
    _ask(payment, made)


def _hold_over(payment: Payment, reference: str) -> None:
    hold = payment.holds.get(reference)
    if hold is not None:
        hold.held = 0
    _drop(payment, ENDING, reference)
    if reference == payment.action_hold:
        _drop(payment, ASKING)
        _no_action(payment)


def _voided(payment: Payment, body: pb.Voided) -> None:
    _hold_over(payment, body.hold)


def _hold_lapsed(payment: Payment, body: pb.HoldLapsed) -> None:
    _hold_over(payment, body.hold)
    if body.hold == payment.hold:
        payment.lapsed = True


def _payment_released(payment: Payment, body: pb.PaymentReleased) -> None:
    payment.intent = Intent.RELEASE
    payment.released = True
    _drop(payment, ASKING)
    _no_action(payment)


# Giving back --------------------------------------------------------------------------------------------------------


def _refund_requested(payment: Payment, body: pb.RefundRequested) -> None:
    made = body.call
    hold = payment.holds.setdefault(made.hold, Hold(made.currency))
    if hold.suspense:
        hold.taken += hold.suspense
        hold.suspense = 0
        hold.compensated = True
    if made.refund:
        refunds = payment.refunds = payment.refunds or {}
        refunds[made.refund] = Refund(RefundStatus.UNDER_WAY, made.amount_minor, body.request_sha256)
    elif payment.sale and payment.intent is Intent.HOLD and made.hold == payment.hold:
        # All of a sale goes back for a release; a part of it at its settlement.
        payment.intent = Intent.RELEASE if made.amount_minor >= hold.taken else Intent.CAPTURE
        payment.to_capture = hold.taken - made.amount_minor
    _ask(payment, made)


def _refunded(payment: Payment, body: pb.Refunded) -> None:
    under_way = payment.refunding(body.hold, body.refund)
    if under_way is not None:
        del payment.calls[under_way.operation, under_way.attempt]
    # A refund happens once. Its other attempts were given up, and what they say later is about this same money.
    late = _forget_given_up(payment, body.hold, body.refund)
    if body.refund:
        payment.refunded += body.amount_minor
        if payment.refunds is not None and body.refund in payment.refunds:
            payment.refunds[body.refund].status = RefundStatus.DONE
        return
    hold = payment.holds.setdefault(body.hold, Hold(body.currency))
    hold.returned += body.amount_minor
    if under_way is None and late:
        hold.owed = max(hold.owed - body.amount_minor, 0)
        payment.owed = max(payment.owed - body.amount_minor, 0)


def _forget_given_up(payment: Payment, hold: str, refund: str) -> bool:
    given_up = payment.given_up or {}
    left = {attempt: one for attempt, one in given_up.items() if (one.hold, one.refund) != (hold, refund)}
    payment.given_up = left or None
    return len(left) < len(given_up)


def _refund_declined(payment: Payment, body: pb.RefundDeclined) -> None:
    call = payment.declining(body.refund, body.amount_minor)
    if call is not None:
        del payment.calls[call.operation, call.attempt]
        _give_up(payment, call)
        if not body.refund:
            payment.holds[call.hold].owed += call.amount
            payment.owed += call.amount
    if body.refund:
        refunds = payment.refunds = payment.refunds or {}
        refunds[body.refund] = Refund(RefundStatus.DECLINED, body.amount_minor, body.request_sha256, body.reason)


# The rest -----------------------------------------------------------------------------------------------------------


def _suspense_recorded(payment: Payment, body: pb.SuspenseRecorded) -> None:
    if body.hold == payment.action_hold:
        # Its money goes back whatever the order wants: what comes of the confirmation is another hold.
        _no_action(payment)
    if body.amount_minor:
        payment.holds.setdefault(body.hold, Hold(body.currency)).suspense += body.amount_minor


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
    "refund_requested": _refund_requested,
    "refunded": _refunded,
    "refund_declined": _refund_declined,
    "payment_released": _payment_released,
    "call_deferred": _call_deferred,
    "call_retried": _call_retried,
    "suspense_recorded": _suspense_recorded,
}
