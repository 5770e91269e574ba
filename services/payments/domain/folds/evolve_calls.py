"""Applies the events about pending calls; the folds of the other events use its helpers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import ProviderCall

from services.payments.domain.state.model import COUNTERS, HOLD_OPENING, AbandonedRefund, Call, Payment
from services.payments.domain.state.provider_life import NEVER_MS


def add_call(payment: Payment, made: ProviderCall) -> Call:
    """Adds a pending call."""
    operation, attempt = made.operation, made.attempt
    counter = COUNTERS.get(operation)
    if counter is not None:
        setattr(payment, counter, max(getattr(payment, counter), attempt))
    call = Call(operation, attempt, made.amount_minor, made.hold, made.refund, approved=made.approved)
    payment.calls[operation, attempt] = call
    return call


def drop_calls(payment: Payment, operations: frozenset[Any], hold: str | None = None) -> None:
    """Removes the pending calls of these operations, or only those about one hold."""
    for name, call in list(payment.calls.items()):
        if call.operation in operations and (hold is None or call.hold == hold):
            del payment.calls[name]


def clear_action(payment: Payment) -> None:
    """The shopper need not confirm any more."""
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
                abandon(payment, call)
            elif made.operation in HOLD_OPENING:
                # The confirmation belonged to the attempt before; voiding its hold does not end the new attempt.
                clear_action(payment)
    add_call(payment, made).deferrals = deferrals


def abandon(payment: Payment, call: Call) -> None:
    """Keeps a refund attempt that ended without success: it may succeed after all."""
    if payment.abandoned is None:
        payment.abandoned = {}
    payment.abandoned[call.attempt] = AbandonedRefund(call.hold, call.refund)


FOLDS: dict[str, Callable[[Payment, Any], None]] = {
    "call_deferred": _call_deferred,
    "call_retried": _call_retried,
}
