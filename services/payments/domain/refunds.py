"""What events change about money that goes back: refunds, and money that nobody asked for.

Must never decide, and never raises.
"""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as pb

from services.payments.domain.model import Payment
from services.payments.domain.model_parts import Hold, Intent, Refund, RefundStatus
from services.payments.domain.pending_calls import ask, forget_action, give_up


def refund_requested(payment: Payment, body: pb.RefundRequested) -> None:
    """Money is to go back. Of money in suspense this shows that it was taken."""
    made = body.call
    hold = payment.holds.setdefault(made.hold, Hold(made.currency))
    if hold.suspense:
        hold.taken += hold.suspense
        hold.suspense = 0
        hold.compensated = True
    if made.refund:
        refunds = payment.refunds = payment.refunds or {}
        refunds[made.refund] = Refund(RefundStatus.UNDER_WAY, made.amount_minor, body.request_sha256, asked=True)
    elif payment.sale and payment.intent is Intent.HOLD and made.hold == payment.hold:
        # All of a sale goes back for a release; a part of it at its settlement.
        payment.intent = Intent.RELEASE if made.amount_minor >= hold.taken else Intent.CAPTURE
        payment.to_capture = hold.taken - made.amount_minor
    ask(payment, made)


def refunded(payment: Payment, body: pb.Refunded) -> None:
    """Money went back."""
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


def refund_declined(payment: Payment, body: pb.RefundDeclined) -> None:
    """Money did not go back: a command is over; what the purse itself gives back is owed."""
    call = payment.declining(body.refund, body.amount_minor)
    if call is not None:
        del payment.calls[call.operation, call.attempt]
        give_up(payment, call)
        if not body.refund:
            payment.holds[call.hold].owed += call.amount
            payment.owed += call.amount
    if body.refund:
        refunds = payment.refunds = payment.refunds or {}
        refunds[body.refund] = Refund(
            RefundStatus.DECLINED, body.amount_minor, body.request_sha256, body.reason, asked=body.refund in refunds
        )


def suspense_recorded(payment: Payment, body: pb.SuspenseRecorded) -> None:
    """Money turned up. The request that follows shows whether it is held or taken."""
    if body.hold == payment.action_hold:
        # Its money goes back whatever the order wants: what comes of the confirmation is another hold.
        forget_action(payment)
    if not payment.method:
        # An order that nobody named: whoever reported the money is asked to give it back.
        payment.method = body.payment_method
    if body.amount_minor:
        hold = payment.holds.setdefault(body.hold, Hold(body.currency))
        if not hold.held and not hold.taken and not hold.suspense:
            # What was there is gone, and what came may be in another currency.
            hold.currency = body.currency
        hold.suspense += body.amount_minor
