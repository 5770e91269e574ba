"""Applies the events of refunds and of unexpected funds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as pb

from services.payments.domain.folds.evolve_calls import abandon, add_call, clear_action
from services.payments.domain.state.model import Hold, Intent, Payment, Refund, RefundStatus
from services.payments.domain.state.provider_life import PaidRefund, owed_key


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
    add_call(payment, made)


def _refunded(payment: Payment, body: pb.Refunded) -> None:
    late = False
    pending = payment.pending_refund(body.hold, body.refund)
    if body.attempt:
        payment.calls.pop((pb.OPERATION_REFUND, body.attempt), None)
        declined = (payment.abandoned or {}).pop(body.attempt, None) is not None
        paid = payment.paid = payment.paid or {}
        paid[body.attempt] = PaidRefund(body.hold, body.refund, body.amount_minor, declined)
    else:
        if pending is not None:
            del payment.calls[pending.operation, pending.attempt]
        # A refund happens once: later reports of its abandoned attempts are about this same money.
        late = _drop_abandoned(payment, body.hold, body.refund)
    if body.excess_minor:
        twice = payment.returned_twice = payment.returned_twice or {}
        name = owed_key(body.hold, body.refund)
        twice[name] = twice.get(name, 0) + body.excess_minor
    due = body.amount_minor - body.excess_minor
    if body.refund:
        payment.refunded += due
        if payment.refunds is not None and body.refund in payment.refunds:
            payment.refunds[body.refund].status = RefundStatus.SUCCEEDED
        return
    hold = payment.holds.setdefault(body.hold, Hold(body.currency))
    hold.returned += due
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
        abandon(payment, call)
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
        clear_action(payment)
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


FOLDS: dict[str, Callable[[Payment, Any], None]] = {
    "refund_requested": _refund_requested,
    "refunded": _refunded,
    "refund_declined": _refund_declined,
    "suspense_recorded": _suspense_recorded,
}
