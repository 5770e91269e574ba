"""Results about holds without a pending call: late, repeated or unexpected."""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from services.payments.domain import unexpected_funds
from services.payments.domain.inputs import provider_news
from services.payments.domain.output import events
from services.payments.domain.state.model import GroupPayments, Intent, Payment

UNKNOWN_PAYMENT = "told of an order that was never asked for"


def authorised(payments: GroupPayments, outcome: ProviderOutcome, at_ms: int) -> Iterator[PaymentEvent]:
    """Money is held, or taken by a sale, that no pending call asked for."""
    order, body = outcome.order, outcome.authorised
    record = payments.orders.get(order)
    if record is not None and record.knows(body.hold):
        if payments.rules_version > 1 and outcome.operation == pb.OPERATION_SALE:
            # The shopper paid after the prepayment was closed. A duplicate of a sale that is booked changes nothing.
            yield from unexpected_funds.on_captured(
                payments, order, body.hold, body.amount_minor, body.currency, at_ms=at_ms
            )
        return
    currency = body.currency
    if record is not None and payments.rules_version > 1:
        currency = currency or record.currency
    known = record is not None and record.intent is not Intent.NONE
    reason = unexpected_funds.SECOND_HOLD if known else unexpected_funds.UNKNOWN_ORDER
    taken = outcome.operation == pb.OPERATION_SALE
    yield from unexpected_funds.return_funds(
        payments,
        order,
        body.hold,
        body.amount_minor,
        currency,
        reason,
        taken=taken,
        method=outcome.payment_method,
        at_ms=at_ms,
    )


def unknown_payment(outcome: ProviderOutcome, kind: str) -> PaymentEvent:
    """An alarm, once, about a payment that this system never requested. No money moved."""
    body = getattr(outcome, kind)
    hold, currency = getattr(body, "hold", ""), getattr(body, "currency", "")
    reason = f"{UNKNOWN_PAYMENT}: {kind} {getattr(body, 'reason', '')}".rstrip()
    return events.suspense_recorded(outcome.order, hold, 0, currency, reason, outcome.payment_method)


def hold_ended(payment: Payment, outcome: ProviderOutcome) -> Iterator[PaymentEvent]:
    """A hold was voided, or lapsed."""
    voided = outcome.HasField("voided")
    reference = outcome.voided.hold if voided else outcome.hold_gone.hold
    yield from provider_news.hold_ended(outcome.order, payment, reference, voided=voided)
