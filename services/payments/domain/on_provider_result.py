"""What the answer to a call under way means. Matched by order, operation and attempt.

An answer that does not fit its call, or says nothing final, leaves the call under way; it is asked again later, so no
call is ever lost. Must never say that money is gone unless the provider said so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from services.payments.domain import events, requests, unexpected_funds
from services.payments.domain.model import GroupPayments, Payment
from services.payments.domain.model_parts import ASKING, ENDING, Call, Intent
from services.payments.domain.retries import RENEWAL_LOOKS, put_off

OVER_BEFORE = "the provider answered with a hold that is over"
WRONG_MONEY = "another amount or currency than was asked for"
ENDED_THERE = "the payment was ended at the provider's"
NEVER_ARRIVED = "released before it reached the provider"
NEVER_CONFIRMED = "the new hold was not confirmed"
AGAIN = "the provider refused to let go of the hold"

Answer: TypeAlias = Callable[[GroupPayments, Payment, Call, ProviderOutcome, int], Iterator[PaymentEvent]]


def answered(
    purse: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, kind: str, at_ms: int
) -> Iterator[PaymentEvent]:
    """Decides what an answer means for its call."""
    yield from _ANSWERS[kind](purse, payment, call, outcome, at_ms)
    if payment.calls.get((call.operation, call.attempt)) is call and not call.retry_at_ms:
        yield put_off(outcome.order, call, at_ms, f"unexpected answer: {kind}")


def _refused(order: str, payment: Payment, reason: str) -> PaymentEvent:
    if payment.intent is Intent.CAPTURE:
        return events.capture_declined(order, payment.hold, reason)
    return events.hold_declined(order, reason)


# Answers to a call that is to make a hold ---------------------------------------------------------------------------


def _authorised(
    purse: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    body = outcome.authorised
    if call.operation in ASKING:
        yield from _held(
            purse, payment, call, outcome.order, body.hold, body.amount_minor, body.currency, body.capturable_until_ms
        )


def _held(
    purse: GroupPayments, payment: Payment, call: Call, order: str, hold: str, amount: int, currency: str, until_ms: int
) -> Iterator[PaymentEvent]:
    """Money came for a call that asked for it."""
    if not hold or amount <= 0:
        return
    if not payment.may_begin(hold):
        yield _refused(order, payment, OVER_BEFORE)
    elif amount == call.amount and currency == payment.currency:
        yield events.hold_authorised(order, call, hold, currency, until_ms)
    else:
        yield _refused(order, payment, WRONG_MONEY)
        taken = call.operation == pb.OPERATION_SALE
        yield from unexpected_funds.return_funds(purse, order, hold, amount, currency, WRONG_MONEY, taken=taken)


def _action_required(
    purse: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    if call.operation not in ASKING:
        return
    order, body = outcome.order, outcome.action_required
    if (body.action_url, body.hold) != (payment.action_url, payment.action_hold):
        yield events.action_required(order, body.action_url, body.hold)
    if payment.intent is Intent.CAPTURE and call.deferrals >= RENEWAL_LOOKS:
        if body.hold:
            yield requests.void_requested(order, payment, body.hold, 0, payment.currency)
        yield events.capture_declined(order, payment.hold, NEVER_CONFIRMED)
    elif not call.retry_at_ms:
        yield put_off(order, call, at_ms, "", looking=True)


# Answers to any call ------------------------------------------------------------------------------------------------


def _declined(
    purse: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    order, reason = outcome.order, outcome.declined.reason
    if call.operation in ASKING:
        yield _refused(order, payment, reason)
    elif call.operation == pb.OPERATION_REFUND:
        yield from _refund_declined(order, payment, call, reason)
    elif call.operation == pb.OPERATION_VOID:
        # A hold can't be given up: in the end it is let go, or over by itself. A new attempt, since the provider may
        # answer the old one with the same refusal for ever, and later, since this decision itself defers it.
        attempt = payment.next_attempt(call.operation)
        yield requests.call_retried(order, payment, call, attempt)
        yield put_off(order, call, at_ms, f"{AGAIN}: {reason}", attempt=attempt)
    elif payment.intent is Intent.RELEASE:
        hold = payment.holds[call.hold]
        yield requests.void_requested(order, payment, call.hold, hold.held, hold.currency)
    else:
        yield events.capture_declined(order, call.hold, reason)


def _refund_declined(order: str, payment: Payment, call: Call, reason: str) -> Iterator[PaymentEvent]:
    known = payment.refunds.get(call.refund) if payment.refunds is not None else None
    digest = known.request_sha256 if known is not None else b""
    while (call.operation, call.attempt) in payment.calls:
        # The event names no attempt. Where it ends another refund of the purse itself over the same amount, that one
        # is taken up again under its own key, and said once more of this one.
        ended = payment.declining(call.refund, call.amount) or call
        yield events.refund_declined(order, call.refund, reason, call.amount, digest)
        if ended is not call:
            yield requests.call_retried(order, payment, ended, ended.attempt)


def _captured(
    purse: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    order, body = outcome.order, outcome.captured
    hold, amount = body.hold or call.hold, body.amount_minor or call.amount
    asking = payment.asking()
    if asking is not None and payment.sale and (asking is call or hold == payment.action_hold):
        # Paid after all, while its prepayment was to be called off, or said in other words.
        yield from _held(purse, payment, asking, order, hold, amount, body.currency or payment.currency, 0)
    elif call.operation in ENDING:
        yield from unexpected_funds.captured(purse, order, hold, amount, body.currency)
    elif call.operation == pb.OPERATION_AUTHORISE and payment.may_begin(hold):
        yield _refused(order, payment, unexpected_funds.TAKEN_UNASKED)
        yield from unexpected_funds.captured(purse, order, hold, amount, body.currency)


def _over(
    purse: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    """The hold is no more: let go, or ended by itself."""
    order = outcome.order
    voided = outcome.HasField("voided")
    if call.operation in ASKING:
        yield _refused(order, payment, ENDED_THERE)
    elif call.operation in ENDING:
        hold = payment.holds[call.hold]
        made = events.voided if voided else events.hold_lapsed
        yield made(order, call.hold, hold.held, hold.currency)
    elif not voided:
        yield from _refund_declined(order, payment, call, ENDED_THERE)


def _refunded(
    purse: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    if call.operation != pb.OPERATION_REFUND:
        return
    currency = payment.holds[call.hold].currency
    # Said to have gone back in another currency is no answer: it is asked for again, and a person will see it.
    if outcome.refunded.currency in ("", currency):
        amount = outcome.refunded.amount_minor or call.amount
        yield events.refunded(outcome.order, call.hold, amount, currency, call.refund)


def _absent(
    purse: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    order = outcome.order
    if payment.intent is Intent.RELEASE and call.operation == pb.OPERATION_CAPTURE:
        hold = payment.holds[call.hold]
        yield requests.void_requested(order, payment, call.hold, hold.held, hold.currency)
    elif payment.intent is not Intent.RELEASE or call.operation not in ASKING:
        yield requests.call_retried(order, payment, call, payment.next_attempt(call.operation))
    elif payment.idle(but=call):
        yield events.payment_released(order)
    else:
        yield events.hold_declined(order, NEVER_ARRIVED)


def _retry_later(
    purse: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    if not call.retry_at_ms:
        body = outcome.retry_later
        looking = bool(payment.action_url or payment.action_hold)
        yield put_off(outcome.order, call, at_ms, body.error, after_ms=body.after_ms, looking=looking)


_ANSWERS: dict[str, Answer] = {
    "authorised": _authorised,
    "action_required": _action_required,
    "declined": _declined,
    "captured": _captured,
    "voided": _over,
    "refunded": _refunded,
    "absent": _absent,
    "hold_gone": _over,
    "retry_later": _retry_later,
}
