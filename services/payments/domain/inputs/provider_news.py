"""News of the provider that no call asked for: reversed refunds, disputes, and what persons do in its dashboard.

Each is recorded once, by the provider's reference. The order may be missing; then the hold determines it. News about a
hold that no order has raises an alarm, and moves no money here. The rules are the same in all versions, because builds
with version 1 alone stop at such an input.

The reasons are stored in decisions: changing a text changes the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import DISPUTE_STATE_LOST, DISPUTE_STATE_OPEN, DISPUTE_STATE_WON, ProviderOutcome

from services.payments.domain import owed, unexpected_funds
from services.payments.domain.output import events, provider_events
from services.payments.domain.state.model import GroupPayments, Intent, Payment, Record, reopened
from services.payments.domain.state.provider_life import Dispute, DisputeStatus, owed_key

UNKNOWN_HOLD = "news of a hold that no order has"
UNKNOWN_REFUND = "a refund came back that is not known"
LOST = "the hold ended while the group formed"

#: Decides news: (payments, record, order, outcome, time in ms) -> events.
Handler: TypeAlias = Callable[[GroupPayments, Record, str, ProviderOutcome, int], Iterator[PaymentEvent]]


def order_of(payments: GroupPayments, outcome: ProviderOutcome) -> str:
    """The order that news are about: named, or by its hold."""
    hold = getattr(outcome, str(outcome.WhichOneof("result"))).hold
    record = payments.orders.get(outcome.order)
    if record is not None and (not hold or record.knows(hold) or outcome.HasField("external")):
        return outcome.order
    return payments.order_of(hold) or outcome.order


def on_news(payments: GroupPayments, order: str, outcome: ProviderOutcome, at_ms: int) -> Iterator[PaymentEvent]:
    """Decides news about an order."""
    kind = str(outcome.WhichOneof("result"))
    body = getattr(outcome, kind)
    record = payments.orders.get(order)
    captured = kind == "external" and body.operation == pb.OPERATION_CAPTURE
    if record is None or (not record.knows(body.hold) and not captured):
        if record is None or UNKNOWN_HOLD not in record.references:
            if captured:
                yield from _captured_by_a_person(payments, order, outcome, at_ms)
            else:
                reason = f"{UNKNOWN_HOLD}: {kind}"
                yield events.suspense_recorded(order, body.hold, 0, body_currency(body), reason, outcome.payment_method)
        return
    yield from _HANDLERS[kind](payments, record, order, outcome, at_ms)


def body_currency(body: object) -> str:
    """Currency of a result, if it has one."""
    return str(getattr(body, "currency", ""))


def _currency(record: Record, hold: str, reported: str) -> str:
    known = record.holds.get(hold) if isinstance(record, Payment) else None
    return reported or (known.currency if known is not None else record.currency)


# Refunds that come back ---------------------------------------------------------------------------------------------


def _reversed(
    payments: GroupPayments, record: Record, order: str, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    body, attempt = outcome.refund_reversed, outcome.attempt
    payment = payments.payment(order)
    call = payment.calls.get((pb.OPERATION_REFUND, attempt)) if payment is not None else None
    if payment is not None and call is not None:
        # It came back before its success was reported. Both are recorded, so that a late success changes nothing.
        known = _currency(record, call.hold, body.currency)
        yield events.refunded(order, call.hold, call.amount, known, call.refund, attempt)
        record = payments.orders[order]
    by_person = (record.external or {}).get(body.reference) if not attempt else None
    paid = by_person if by_person is not None else (record.paid or {}).get(attempt)
    if paid is None:
        return
    reference = body.reference if by_person is not None else ""
    amount = min(body.amount_minor, paid.amount) or paid.amount
    currency = _currency(record, paid.hold, body.currency)
    twice = 0 if by_person is not None else (record.returned_twice or {}).get(owed_key(paid.hold, paid.refund), 0)
    excess = min(twice, amount)
    yield provider_events.refund_reversed(order, attempt, reference, paid, amount, currency, body.reason, excess)
    left = amount - excess
    if by_person is not None or not left:
        # A person decided on that refund: if the money is due all the same, the next steps return it. Or it had been
        # returned twice, so that it is not due again.
        return
    # Without the debt, which follows, the payment may be finished.
    payment = payments.payment(order) or reopened(payments.orders[order])
    refund = paid.refund if payment.intent is Intent.CAPTURE else ""
    debt = payment.debt(paid.hold, refund)
    due = left + (0 if debt is None else debt.amount) if refund else max(payment.due(paid.hold), 0)
    if due:
        failures = 1 if debt is None else debt.failures + 1
        yield owed.owe(order, payment, paid.hold, refund, due, body.reason, failures, at_ms)


# Disputes -----------------------------------------------------------------------------------------------------------


def _dispute(
    payments: GroupPayments, record: Record, order: str, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    body = outcome.dispute
    known = (record.disputes or {}).get(body.dispute)
    if known is not None and known.status is not DisputeStatus.OPEN:
        return
    if _is_new(known, outcome):
        yield provider_events.dispute_opened(order, body, _currency(record, body.hold, body.currency))
        known = (payments.orders[order].disputes or {})[body.dispute]
    elif known is not None and body.evidence_due_ms not in (0, known.evidence_due_ms):
        yield provider_events.dispute_evidence_due(order, body.hold, body.dispute, body.evidence_due_ms)
    if known is not None and body.state in (DISPUTE_STATE_WON, DISPUTE_STATE_LOST):
        won = body.state == DISPUTE_STATE_WON
        yield provider_events.dispute_ended(order, body.dispute, known, won=won)


def _is_new(known: Dispute | None, outcome: ProviderOutcome) -> bool:
    """Whether the dispute is not known yet, or other amounts are reported while it is open."""
    body = outcome.dispute
    if known is None:
        return True
    if body.state != DISPUTE_STATE_OPEN:
        # What was withdrawn is known; the end may be reported without amounts.
        return body.withdrawn_minor > known.withdrawn_amount
    reported = (body.amount_minor, body.withdrawn_minor, body.fee_minor)
    return reported != (known.amount, known.withdrawn_amount, known.fee)


def _fraud_warning(
    payments: GroupPayments, record: Record, order: str, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    body = outcome.fraud_warning
    if f"warning {body.warning}" not in record.references:
        yield provider_events.fraud_warning_received(order, body.hold, body.warning, body.reason)


# Operations of persons ----------------------------------------------------------------------------------------------


def _external(
    payments: GroupPayments, record: Record, order: str, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    body = outcome.external
    if f"operation {body.reference}" in record.references:
        return
    if body.operation == pb.OPERATION_CAPTURE:
        yield from _captured_by_a_person(payments, order, outcome, at_ms)
        return
    currency = _currency(record, body.hold, body.currency)
    amount = body.amount_minor if body.operation == pb.OPERATION_REFUND else 0
    yield provider_events.external_operation_recorded(
        order, body.hold, body.operation, amount, currency, body.reference
    )
    payment = payments.payment(order)
    if body.operation == pb.OPERATION_VOID and payment is not None:
        yield from hold_ended(order, payment, body.hold, voided=True)


def _captured_by_a_person(
    payments: GroupPayments, order: str, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    body = outcome.external
    record = payments.orders.get(order)
    if record is not None and record.has_taken(body.hold):
        return
    currency = body.currency or ("" if record is None else _currency(record, body.hold, ""))
    yield provider_events.external_operation_recorded(
        order, body.hold, body.operation, body.amount_minor, currency, body.reference
    )
    yield from unexpected_funds.on_captured(
        payments, order, body.hold, body.amount_minor, body.currency, outcome.payment_method, at_ms=at_ms
    )


def hold_ended(order: str, payment: Payment, reference: str, *, voided: bool) -> Iterator[PaymentEvent]:
    """A hold was voided or lapsed, and no pending call of it was answered."""
    hold = payment.holds.get(reference)
    if hold is None or not (hold.held or (hold.suspense and not hold.suspense_taken)):
        return
    pending = payment.pending_end(reference)
    if pending is not None and pending.operation == pb.OPERATION_CAPTURE:
        # The report may be older or newer than the capture, whose own result decides.
        return
    ended = events.voided if voided else events.hold_lapsed
    yield ended(order, reference, hold.held or hold.suspense, hold.currency)


def report_lost_hold(order: str, payment: Payment) -> Iterator[PaymentEvent]:
    """Tells the group, once, that an order's hold ended while the group forms."""
    hold = payment.holds.get(payment.hold)
    if payment.intent is not Intent.HOLD or payment.lost or payment.declined or hold is None:
        return
    kept = hold.taken - hold.returned if payment.sale else hold.held
    if kept < payment.amount and payment.pending_authorisation() is None:
        yield provider_events.hold_lost(order, payment.hold, LOST)


# Fees and payouts ---------------------------------------------------------------------------------------------------


def _fee(
    payments: GroupPayments, record: Record, order: str, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    body = outcome.fee
    if body.amount_minor and f"fee {body.reference}" not in record.references:
        yield provider_events.fee_charged(order, body, _currency(record, body.hold, body.currency))


def _paid_out(
    payments: GroupPayments, record: Record, order: str, outcome: ProviderOutcome, at_ms: int
) -> Iterator[PaymentEvent]:
    body = outcome.paid_out
    if body.amount_minor and f"payout {body.reference}" not in record.references:
        yield provider_events.paid_out(order, body, _currency(record, body.hold, body.currency))


_HANDLERS: dict[str, Handler] = {
    "refund_reversed": _reversed,
    "dispute": _dispute,
    "fraud_warning": _fraud_warning,
    "external": _external,
    "fee": _fee,
    "paid_out": _paid_out,
}
#: Results that are news.
NEWS = frozenset(_HANDLERS)
