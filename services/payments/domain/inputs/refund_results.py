"""Results of refunds, of a pending call or late: refused, succeeded, or made by a person at the provider."""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from services.payments.domain import owed
from services.payments.domain.inputs import provider_news
from services.payments.domain.output import events
from services.payments.domain.state.model import Call, GroupPayments, Payment, RefundStatus, reopened


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
    new_rules = payments.rules_version > 1
    attempt = outcome.attempt if new_rules else 0
    excess = _excess(payment, hold, refund, amount, attempt) if new_rules else 0
    debt = payment.debt(hold, refund)
    yield events.refunded(outcome.order, hold, amount, currency, refund, attempt, excess)
    if debt is not None and refund:
        # A sum without a command is lowered by the next steps, to what is still due of its hold.
        yield owed.lower(outcome.order, debt, amount)


def _excess(payment: Payment, hold: str, refund: str, amount: int, attempt: int) -> int:
    """The part of a refund that succeeded and was not due any more: the money had reached the customer before."""
    pending = (pb.OPERATION_REFUND, attempt) in payment.calls
    debt = payment.debt(hold, refund)
    known = (payment.refunds or {}).get(refund)
    if refund and debt is not None:
        due = debt.amount
    elif refund:
        returned = known is not None and known.status in (RefundStatus.SUCCEEDED, RefundStatus.REVERSED)
        due = 0 if returned else amount
    elif pending and any(one.hold == hold for one in (payment.external or {}).values()):
        # A person refunded meanwhile: the rest of both is a refund of the charge.
        due = amount
    else:
        due = payment.due_beside_disputes(hold) if hold in payment.holds else 0
    return max(amount - max(due, 0), 0)


def late_succeeded(payments: GroupPayments, outcome: ProviderOutcome, at_ms: int) -> Iterator[PaymentEvent]:
    """An abandoned refund attempt succeeded after all, or a person refunded."""
    if payments.rules_version > 1 and not outcome.attempt:
        yield from _refunded_by_a_person(payments, outcome, at_ms)
        return
    record = payments.orders.get(outcome.order)
    abandoned = (record.abandoned or {}).get(outcome.attempt) if record is not None else None
    if record is None or abandoned is None or outcome.operation != pb.OPERATION_REFUND:
        return
    hold, refund, amount = abandoned.hold, abandoned.refund, outcome.refunded.amount_minor
    if payments.rules_version < 2:
        yield events.refunded(outcome.order, hold, amount, record.currency, refund)
        return
    payment = record if isinstance(record, Payment) else reopened(record)
    yield from _book_refund(payments, payment, outcome, hold, amount, record.currency, refund)


def late_declined(payments: GroupPayments, outcome: ProviderOutcome, at_ms: int) -> Iterator[PaymentEvent]:
    """A refund that had succeeded is reported as declined: it failed later, so that it came back."""
    record = payments.orders.get(outcome.order)
    paid = (record.paid or {}).get(outcome.attempt) if record is not None else None
    if paid is None or paid.after_decline:
        return
    news = ProviderOutcome(order=outcome.order, operation=outcome.operation, attempt=outcome.attempt)
    news.origin = outcome.origin
    news.refund_reversed.hold = paid.hold
    news.refund_reversed.amount_minor = paid.amount
    news.refund_reversed.reason = outcome.declined.reason
    yield from provider_news.on_news(payments, outcome.order, news, at_ms)


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
