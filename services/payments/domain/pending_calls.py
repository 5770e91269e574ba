"""What events change about the calls under way. Must never decide, and never raises."""

from __future__ import annotations

from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import ProviderCall

from services.payments.domain.model import Payment
from services.payments.domain.model_parts import ASKING, COUNTERS, Call, GivenUp


def ask(payment: Payment, made: ProviderCall) -> Call:
    """A call is under way."""
    operation, attempt = made.operation, made.attempt
    counter = COUNTERS[operation]
    setattr(payment, counter, max(getattr(payment, counter), attempt))
    call = Call(operation, attempt, made.amount_minor, made.hold, made.refund)
    payment.calls[operation, attempt] = call
    return call


def drop(payment: Payment, operations: frozenset[Any], hold: str | None = None) -> None:
    """Forgets calls that have no more to say: all of these operations, or those about a hold."""
    for name, call in list(payment.calls.items()):
        if call.operation in operations and (hold is None or call.hold == hold):
            del payment.calls[name]


def forget_action(payment: Payment) -> None:
    """There is nothing to confirm any more."""
    payment.action_url = payment.action_hold = ""


def call_deferred(payment: Payment, body: pb.CallDeferred) -> None:
    """A call waits."""
    call = payment.calls.get((body.operation, body.attempt))
    if call is not None:
        call.retry_at_ms = body.retry_at_ms
        call.deferrals = body.deferrals


def call_retried(payment: Payment, body: pb.CallRetried) -> None:
    """A call is made again: itself, its next attempt, or one that was given up by mistake."""
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
                give_up(payment, call)
            elif made.operation in ASKING:
                # What the shopper was to confirm was of the attempt before: to let go of that ends nothing of this one.
                forget_action(payment)
    ask(payment, made).deferrals = deferrals


def give_up(payment: Payment, call: Call) -> None:
    """An attempt at a refund is over without an effect, as far as is known."""
    if payment.given_up is None:
        payment.given_up = {}
    payment.given_up[call.attempt] = GivenUp(call.hold, call.refund)
