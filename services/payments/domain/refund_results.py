"""Results of refunds, of a pending call or late: refused, succeeded, or made by a person at the provider."""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from services.payments.domain import events, owed, provider_news
from services.payments.domain.model import Call, GroupPayments, Payment


def refused(
    payments: GroupPayments, order: str, payment: Payment, call: Call, reason: str, at_ms: int
) -> Iterator[PaymentEvent]:
    """Under rules version 1 the amount stays owed without a further attempt."""
    if payments.rules_version > 1:
        return owed.refund_refused(order, payment, call, reason, at_ms)
    return _refund_declined(order, payment, call, reason)


def _refund_declined(order: str, payment: Payment, call: Call, reason: str) -> Iterator[PaymentEvent]:
    known = payment.refunds.get(call.refund) if payment.refunds is not None else None
    digest = known.request_sha256 if known is not None else b""
    while (call.operation, call.attempt) in payment.calls:
        # The event names no attempt. If it ends another refund of the same amount instead, that one is retried under
        # its own key, and the event is emitted once more for this one.
        ended = payment.declined_refund(call.refund, call.amount) or call
        yield events.refund_declined(order, call.refund, reason, call.amount, digest)
        if ended is not call:
            yield events.call_retried(order, payment, ended, ended.attempt)


def succeeded(
    payments: GroupPayments, payment: Payment, call: Call, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    """The provider reports the success of a pending call."""
    if call.operation != pb.OPERATION_REFUND:
        return
    currency = payment.holds[call.hold].currency
    # A refund in another currency does not fit the call: the call is deferred with an error for operators.
    if outcome.refunded.currency in ("", currency):
        amount = outcome.refunded.amount_minor or call.amount
        yield from _book_refund(payments, payment, outcome, call.hold, amount, currency, call.refund)


def _book_refund(
    payments: GroupPayments,
    payment: Payment,
    outcome: ProviderOutcome,
    hold: str,
    amount: int,
    currency: str,
    refund: str,
) -> Iterator[PaymentEvent]:
    attempt = outcome.attempt if payments.rules_version > 1 else 0
    debt = payment.debt(hold, refund)
    yield events.refunded(outcome.order, hold, amount, currency, refund, attempt)
    if debt is not None and refund:
        # A sum without a command is lowered by the next steps, to what is still due of its hold.
        yield owed.lower(outcome.order, debt, amount)


def late_succeeded(payments: GroupPayments, outcome: ProviderOutcome, at_ms: int) -> Iterator[PaymentEvent]:
    """An abandoned refund attempt succeeded after all, or a person refunded."""
    if payments.rules_version > 1 and not outcome.attempt:
        yield from _refunded_by_a_person(payments, outcome, at_ms)
        return
    record = payments.orders.get(outcome.order)
    abandoned = (record.abandoned or {}).get(outcome.attempt) if record is not None else None
    if record is None or abandoned is None or outcome.operation != pb.OPERATION_REFUND:
        return
    hold, amount = abandoned.hold, outcome.refunded.amount_minor
    if payments.rules_version > 1 and isinstance(record, Payment):
        refund, currency = abandoned.refund, record.currency
        yield from _book_refund(payments, record, outcome, hold, amount, currency, refund)
        return
    attempt = outcome.attempt if payments.rules_version > 1 else 0
    yield events.refunded(outcome.order, hold, amount, record.currency, abandoned.refund, attempt)


def _refunded_by_a_person(payments: GroupPayments, outcome: ProviderOutcome, at_ms: int) -> Iterator[PaymentEvent]:
    """A refund without an attempt of ours: it has no metadata of this system."""
    body = outcome.refunded
    news = ProviderOutcome(order=outcome.order, origin=outcome.origin, payment_method=outcome.payment_method)
    news.external.hold = body.hold
    news.external.operation = pb.OPERATION_REFUND
    news.external.amount_minor = body.amount_minor
    news.external.currency = body.currency
    news.external.reference = body.reference or f"{body.hold} {body.amount_minor}"
    yield from provider_news.on_news(payments, outcome.order, news, at_ms)
