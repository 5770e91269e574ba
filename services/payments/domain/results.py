"""What a claim about the provider means: the answer to a call under way, or news about a call that nobody waits for.

News is late, repeated or unasked. Nothing but money that moved makes it matter. Must never book one movement twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import (
    OUTCOME_ORIGIN_NOTIFICATION,
    OUTCOME_ORIGIN_RECONCILIATION,
    ProviderOutcome,
)

from services.payments.domain import events, unexpected_funds
from services.payments.domain.model import GroupPayments, Payment
from services.payments.domain.model_parts import Intent
from services.payments.domain.next_steps import next_steps
from services.payments.domain.on_provider_result import answered

#: What a provider says without being asked. Only this is worth an alarm where nobody knows of the order.
_UNASKED = frozenset({OUTCOME_ORIGIN_NOTIFICATION, OUTCOME_ORIGIN_RECONCILIATION})

NEWS_OF_NOBODY = "told of an order that was never asked for"


def on_result(purse: GroupPayments, outcome: ProviderOutcome, at_ms: int) -> Iterator[PaymentEvent]:
    """Decides what an outcome means, and what follows from it."""
    order = outcome.order
    kind = outcome.WhichOneof("result")
    payment = purse.payment(order)
    call = payment.calls.get((outcome.operation, outcome.attempt)) if payment is not None else None
    if payment is not None and call is not None:
        yield from answered(purse, payment, call, outcome, str(kind), at_ms)
    elif kind == "authorised":
        yield from _authorised(purse, outcome)
    elif kind == "captured":
        said = outcome.captured
        yield from unexpected_funds.captured(
            purse, order, said.hold, said.amount_minor, said.currency, outcome.payment_method
        )
    elif order not in purse.orders and outcome.origin in _UNASKED:
        yield _news_of_nobody(outcome, str(kind))
    elif kind in ("voided", "hold_gone") and payment is not None:
        yield from _over(payment, outcome)
    elif kind == "refunded":
        yield from _refunded(purse, outcome)
    yield from next_steps(purse, order)


def _authorised(purse: GroupPayments, outcome: ProviderOutcome) -> Iterator[PaymentEvent]:
    order, body = outcome.order, outcome.authorised
    record = purse.orders.get(order)
    if record is not None and record.knows(body.hold):
        return
    known = record is not None and record.intent is not Intent.NONE
    reason = unexpected_funds.SECOND_HOLD if known else unexpected_funds.UNKNOWN_ORDER
    taken = outcome.operation == pb.OPERATION_SALE
    yield from unexpected_funds.return_funds(
        purse,
        order,
        body.hold,
        body.amount_minor,
        body.currency,
        reason,
        taken=taken,
        method=outcome.payment_method,
    )


def _news_of_nobody(outcome: ProviderOutcome, kind: str) -> PaymentEvent:
    """A provider speaks of a payment that was never asked for. No money came, but a person should know, once."""
    said = getattr(outcome, kind)
    hold, currency = getattr(said, "hold", ""), getattr(said, "currency", "")
    reason = f"{NEWS_OF_NOBODY}: {kind} {getattr(said, 'reason', '')}".rstrip()
    return events.suspense_recorded(outcome.order, hold, 0, currency, reason, outcome.payment_method)


def _over(payment: Payment, outcome: ProviderOutcome) -> Iterator[PaymentEvent]:
    """A hold is said to be over, though not in answer to a call."""
    voided = outcome.HasField("voided")
    reference = outcome.voided.hold if voided else outcome.hold_gone.hold
    hold = payment.holds.get(reference)
    if hold is None or not hold.held:
        return
    ending = payment.ending(reference)
    if ending is not None and ending.operation == pb.OPERATION_CAPTURE:
        # "Expired" may have been said before or after the capture took effect: the capture's own answer tells.
        return
    made = events.voided if voided else events.hold_lapsed
    yield made(outcome.order, reference, hold.held, hold.currency)


def _refunded(purse: GroupPayments, outcome: ProviderOutcome) -> Iterator[PaymentEvent]:
    """A refund that had been given up went through after all."""
    record = purse.orders.get(outcome.order)
    given_up = (record.given_up or {}).get(outcome.attempt) if record is not None else None
    if record is None or given_up is None or outcome.operation != pb.OPERATION_REFUND:
        return
    hold, amount = given_up.hold, outcome.refunded.amount_minor
    yield events.refunded(outcome.order, hold, amount, record.currency, given_up.refund)
