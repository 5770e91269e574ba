"""Results of provider calls: what an outcome means for its pending call, or for an order without that call.

An outcome matches a call by order, operation and attempt. If it does not fit the call or is not final, the call stays
pending and is retried. An outcome without a pending call is late, a duplicate or unexpected: it matters only if money
moved, and one movement is booked once. Money counts as returned only when the provider reports it.

The reasons are stored in decisions: changing a text changes the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import (
    OUTCOME_ORIGIN_NOTIFICATION,
    OUTCOME_ORIGIN_RECONCILIATION,
    ProviderOutcome,
)

from services.payments.domain import unexpected_funds
from services.payments.domain.inputs import late_results, provider_news, refund_results
from services.payments.domain.inputs.on_timer import (
    MAX_DEFERRALS,
    MAX_RENEWAL_POLLS,
    NOT_POSSIBLE_PAUSE_MS,
    defer,
    defer_or_give_up,
)
from services.payments.domain.next_steps import next_steps
from services.payments.domain.output import events, provider_events
from services.payments.domain.state.model import HOLD_ENDING, HOLD_OPENING, Call, GroupPayments, Intent, Payment

#: Sources that report without a call. Only their reports about unknown orders raise an alarm.
_UNSOLICITED = frozenset({OUTCOME_ORIGIN_NOTIFICATION, OUTCOME_ORIGIN_RECONCILIATION})

HOLD_ENDED = "the provider answered with a hold that is over"
WRONG_AMOUNT = "another amount or currency than was asked for"
ENDED_AT_PROVIDER = "the payment was ended at the provider's"
NEVER_ARRIVED = "released before it reached the provider"
NEVER_CONFIRMED = "the new hold was not confirmed"
VOID_DECLINED = "the provider refused to let go of the hold"

#: Decides a result: (payments, payment, pending call, outcome, time in ms) -> events.
Handler: TypeAlias = Callable[[GroupPayments, Payment, Call, ProviderOutcome, int], Iterator[PaymentEvent]]


def on_provider_result(payments: GroupPayments, outcome: ProviderOutcome, at_ms: int) -> Iterator[PaymentEvent]:
    """Decides an outcome and the steps that follow from it."""
    order = outcome.order
    kind = outcome.WhichOneof("result")
    if kind in provider_news.NEWS:
        order = provider_news.order_of(payments, outcome)
        yield from provider_news.on_news(payments, order, outcome, at_ms)
        yield from next_steps(payments, order)
        return
    payment = payments.payment(order)
    call = payment.calls.get((outcome.operation, outcome.attempt)) if payment is not None else None
    if payment is not None and call is not None:
        yield from _on_pending_call(payments, payment, call, outcome, str(kind), at_ms)
    elif kind == "authorised":
        yield from late_results.authorised(payments, outcome, at_ms)
    elif kind == "captured":
        body = outcome.captured
        yield from unexpected_funds.on_captured(
            payments, order, body.hold, body.amount_minor, body.currency, outcome.payment_method, at_ms=at_ms
        )
    elif order not in payments.orders and outcome.origin in _UNSOLICITED:
        yield late_results.unknown_payment(outcome, str(kind))
    elif kind in ("voided", "hold_gone") and payment is not None:
        yield from late_results.hold_ended(payment, outcome)
    elif kind == "refunded":
        yield from refund_results.late_succeeded(payments, outcome, at_ms)
    elif kind == "declined" and outcome.operation == pb.OPERATION_REFUND:
        yield from refund_results.late_declined(payments, outcome, at_ms)
    yield from next_steps(payments, order)


def _on_pending_call(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, kind: str, at_ms: int
) -> Iterator[PaymentEvent]:
    handlers = _CHECK_HANDLERS if call.operation == pb.OPERATION_CHECK else _HANDLERS
    yield from handlers[kind](payments, payment, call, outcome, at_ms)
    if payment.calls.get((call.operation, call.attempt)) is call and not call.retry_at_ms:
        error, alarm = f"unexpected answer: {kind}", payments.rules_version > 1 and kind == "refunded"
        yield from defer_or_give_up(payments, outcome.order, payment, call, at_ms, error, alarm=alarm)


def _declined_event(order: str, payment: Payment, reason: str) -> PaymentEvent:
    """The decline of a hold; of a renewed hold it means that the capture is declined."""
    if payment.intent is Intent.CAPTURE:
        return events.capture_declined(order, payment.hold, reason)
    return events.hold_declined(order, reason)


# Results of a call that opens a hold --------------------------------------------------------------------------------


def _authorised(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    body = outcome.authorised
    if call.operation in HOLD_OPENING:
        yield from _hold_opened(
            payments,
            payment,
            call,
            outcome.order,
            body.hold,
            body.amount_minor,
            body.currency,
            body.capturable_until_ms,
            at_ms,
        )


def _hold_opened(
    payments: GroupPayments,
    payment: Payment,
    call: Call,
    order: str,
    hold: str,
    amount: int,
    currency: str,
    until_ms: int,
    at_ms: int,
) -> Iterator[PaymentEvent]:
    if not hold or amount <= 0:
        return
    if payments.rules_version > 1:
        # A result without a currency is in the call's.
        currency = currency or payment.currency
    if not payment.may_open(hold):
        yield _declined_event(order, payment, HOLD_ENDED)
    elif amount == call.amount and currency == payment.currency:
        yield events.hold_authorised(order, call, hold, currency, until_ms)
    else:
        yield _declined_event(order, payment, WRONG_AMOUNT)
        taken = call.operation == pb.OPERATION_SALE
        yield from unexpected_funds.return_funds(
            payments, order, hold, amount, currency, WRONG_AMOUNT, taken=taken, at_ms=at_ms
        )


def _action_required(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    if call.operation not in HOLD_OPENING:
        return
    order, body = outcome.order, outcome.action_required
    if (body.action_url, body.hold) != (payment.action_url, payment.action_hold):
        yield events.action_required(order, body.action_url, body.hold)
    if payment.intent is Intent.CAPTURE and call.deferrals >= MAX_RENEWAL_POLLS:
        if body.hold:
            yield events.void_requested(order, payment, body.hold, 0, payment.currency)
        yield events.capture_declined(order, payment.hold, NEVER_CONFIRMED)
    elif not call.retry_at_ms:
        yield from defer_or_give_up(payments, order, payment, call, at_ms, "", polling=True)


# Results of any call ------------------------------------------------------------------------------------------------


def _declined(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    order, reason = outcome.order, outcome.declined.reason
    if call.operation in HOLD_OPENING:
        yield _declined_event(order, payment, reason)
    elif call.operation == pb.OPERATION_REFUND:
        yield from refund_results.refused(payments, order, payment, call, reason, at_ms)
    elif call.operation == pb.OPERATION_VOID and payments.rules_version > 1 and call.deferrals >= MAX_DEFERRALS:
        yield from defer_or_give_up(payments, order, payment, call, at_ms, f"{VOID_DECLINED}: {reason}")
    elif call.operation == pb.OPERATION_VOID:
        # A void is retried until the hold has ended. It needs a new attempt, since the provider may repeat the result
        # of the old one for ever, and a pause, which this same decision adds.
        attempt = payment.next_attempt(call.operation)
        yield events.call_retried(order, payment, call, attempt)
        yield defer(order, call, at_ms, f"{VOID_DECLINED}: {reason}", attempt=attempt)
    elif payment.intent is Intent.RELEASE:
        hold = payment.holds[call.hold]
        yield events.void_requested(order, payment, call.hold, hold.held, hold.currency)
    else:
        yield events.capture_declined(order, call.hold, reason)


def _captured(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    order, body = outcome.order, outcome.captured
    hold, amount = body.hold or call.hold, body.amount_minor or call.amount
    sale = payment.pending_authorisation() if payment.sale else None
    if sale is not None and (sale is call or hold == payment.action_hold):
        # The result of the sale itself, or the shopper paid while the prepayment was being voided.
        currency = body.currency or payment.currency
        yield from _hold_opened(payments, payment, sale, order, hold, amount, currency, 0, at_ms)
    elif call.operation in HOLD_ENDING:
        yield from unexpected_funds.on_captured(payments, order, hold, amount, body.currency, at_ms=at_ms)
    elif call.operation == pb.OPERATION_AUTHORISE and payment.may_open(hold):
        yield _declined_event(order, payment, unexpected_funds.TAKEN_UNEXPECTEDLY)
        yield from unexpected_funds.on_captured(payments, order, hold, amount, body.currency, at_ms=at_ms)


def _hold_ended(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    """The hold was voided, or lapsed."""
    order = outcome.order
    voided = outcome.HasField("voided")
    if call.operation in HOLD_OPENING:
        yield _declined_event(order, payment, ENDED_AT_PROVIDER)
    elif call.operation in HOLD_ENDING:
        hold = payment.holds[call.hold]
        ended = events.voided if voided else events.hold_lapsed
        yield ended(order, call.hold, hold.held, hold.currency)
    elif not voided:
        yield from refund_results.refused(payments, order, payment, call, ENDED_AT_PROVIDER, at_ms)


def _absent(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    """The call never reached the provider, so it is made again unless the order is released."""
    order = outcome.order
    if payment.intent is Intent.RELEASE and call.operation == pb.OPERATION_CAPTURE:
        hold = payment.holds[call.hold]
        yield events.void_requested(order, payment, call.hold, hold.held, hold.currency)
    elif payment.intent is not Intent.RELEASE or call.operation not in HOLD_OPENING:
        yield from _attempt_again(payments, order, payment, call, outcome.absent.error, at_ms)
    elif payment.idle(besides=call):
        yield events.payment_released(order)
    else:
        yield events.hold_declined(order, NEVER_ARRIVED)


def _attempt_again(
    payments: GroupPayments, order: str, payment: Payment, call: Call, error: str, at_ms: int
) -> Iterator[PaymentEvent]:
    """Makes the next attempt, which has a new key. Under rules version 2 it waits if the provider fails again and
    again, and has an end."""
    if payments.rules_version > 1 and call.deferrals >= MAX_DEFERRALS:
        yield from defer_or_give_up(payments, order, payment, call, at_ms, error)
        return
    attempt = payment.next_attempt(call.operation)
    yield events.call_retried(order, payment, call, attempt)
    if payments.rules_version > 1 and (error or call.deferrals):
        made = payment.calls[call.operation, attempt]
        yield from defer_or_give_up(payments, order, payment, made, at_ms, error)


def _not_possible(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    """A wrong key, account or mode: nothing is known of the call, and an operator has to look."""
    if not call.retry_at_ms:
        body = outcome.not_possible
        after_ms = max(body.after_ms, NOT_POSSIBLE_PAUSE_MS)
        yield from defer_or_give_up(
            payments, outcome.order, payment, call, at_ms, body.error, retry_after_ms=after_ms, alarm=True
        )


def _retry_later(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    if not call.retry_at_ms:
        body = outcome.retry_later
        # Rules version 1 polls for the end of a void as well, while the shopper may confirm.
        waits = payments.rules_version < 2 or call.operation in HOLD_OPENING
        polling = waits and bool(payment.action_url or payment.action_hold)
        yield from defer_or_give_up(
            payments, outcome.order, payment, call, at_ms, body.error, retry_after_ms=body.after_ms, polling=polling
        )


_HANDLERS: dict[str, Handler] = {
    "authorised": _authorised,
    "action_required": _action_required,
    "declined": _declined,
    "captured": _captured,
    "voided": _hold_ended,
    "refunded": refund_results.succeeded,
    "absent": _absent,
    "hold_gone": _hold_ended,
    "retry_later": _retry_later,
    "not_possible": _not_possible,
}


# Results of the check of a hold -------------------------------------------------------------------------------------


def _checked(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    """The hold is open, or the provider says nothing of it that could be acted on."""
    yield provider_events.hold_checked(outcome.order, call, ended=False)


def _checked_ended(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    yield provider_events.hold_checked(outcome.order, call, ended=True)
    voided = outcome.HasField("voided")
    yield from provider_news.hold_ended(outcome.order, payment, call.hold, voided=voided)


def _check_later(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    """The check is retried until the group closes. A wrong key raises its alarm at the calls that move money."""
    if not call.retry_at_ms:
        body = outcome.not_possible if outcome.HasField("not_possible") else outcome.retry_later
        yield defer(outcome.order, call, at_ms, body.error, retry_after_ms=body.after_ms)


def _checked_captured(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    order, body = outcome.order, outcome.captured
    yield provider_events.hold_checked(order, call, ended=True)
    amount = body.amount_minor or call.amount
    yield from unexpected_funds.on_captured(payments, order, call.hold, amount, body.currency, at_ms=at_ms)


#: A result that is not final leaves the check pending, as every call.
_CHECK_HANDLERS: dict[str, Handler] = {
    "authorised": _checked,
    "action_required": _checked,
    "declined": _checked,
    "captured": _checked_captured,
    "voided": _checked_ended,
    "refunded": _checked,
    "absent": _checked,
    "hold_gone": _checked_ended,
    "retry_later": _check_later,
    "not_possible": _check_later,
}
