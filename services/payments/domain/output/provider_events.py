"""Builders of the events about what a provider does by itself, and about operators. The others are in events.py."""

from __future__ import annotations

from groupbuy.payments.v1.decisions_pb2 import OperatorAction, PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import OperatorCommand, OutcomeDispute, OutcomeFee, OutcomePaidOut

from services.payments.domain.errors import AmountOutOfRange
from services.payments.domain.output.events import MAX_MINOR, minor
from services.payments.domain.state.model import Call
from services.payments.domain.state.provider_life import Adjustment, Dispute, Owed, PaidRefund


def signed(amount: int) -> int:
    """An amount that may be negative. Raises AmountOutOfRange."""
    if -MAX_MINOR <= amount <= MAX_MINOR:
        return amount
    raise AmountOutOfRange(f"{amount} does not fit into 64 bits")


def rules_selected(rules_version: int) -> PaymentEvent:
    """The version of the rules is fixed."""
    event = PaymentEvent()
    event.rules_selected.rules_version = rules_version
    return event


# Money owed ---------------------------------------------------------------------------------------------------------


def money_owed(order: str, debt: Owed) -> PaymentEvent:
    """The sum that is owed for a hold and a refund; amount 0: nothing any more."""
    event = PaymentEvent()
    body = event.money_owed
    body.order = order
    body.hold = debt.hold
    body.refund = debt.refund
    body.amount_minor = minor(debt.amount)
    body.currency = debt.currency
    body.reason = debt.reason
    body.failures = debt.failures
    body.next_attempt_ms = debt.next_ms
    body.alarm = debt.alarm
    return event


def refund_reversed(
    order: str, attempt: int, reference: str, paid: PaidRefund, amount: int, currency: str, reason: str, excess: int = 0
) -> PaymentEvent:
    """A refund that had succeeded came back: one of ours by its attempt, one that a person made by its reference.

    `excess` of it had been returned twice.
    """
    event = PaymentEvent()
    body = event.refund_reversed
    body.order = order
    body.hold = paid.hold
    body.amount_minor = minor(amount)
    body.currency = currency
    body.refund = paid.refund
    body.attempt = attempt
    body.reason = reason
    body.reference = reference
    body.excess_minor = minor(excess)
    return event


def returned_outside(order: str, debt: Owed, amount: int, reference: str) -> PaymentEvent:
    """A part of what is owed reached the customer by other means."""
    event = PaymentEvent()
    body = event.returned_outside
    body.order = order
    body.hold = debt.hold
    body.refund = debt.refund
    body.amount_minor = minor(amount)
    body.currency = debt.currency
    body.reference = reference
    return event


# Disputes -----------------------------------------------------------------------------------------------------------


def dispute_opened(order: str, news: OutcomeDispute, currency: str) -> PaymentEvent:
    """A dispute was opened, or its amounts changed."""
    event = PaymentEvent()
    body = event.dispute_opened
    body.order = order
    body.hold = news.hold
    body.dispute = news.dispute
    body.amount_minor = minor(news.amount_minor)
    body.currency = currency
    body.reason = news.reason
    body.withdrawn_minor = minor(news.withdrawn_minor)
    body.fee_minor = minor(news.fee_minor)
    body.evidence_due_ms = news.evidence_due_ms
    return event


def dispute_evidence_due(order: str, hold: str, dispute: str, evidence_due_ms: int) -> PaymentEvent:
    """The time for evidence changed."""
    event = PaymentEvent()
    body = event.dispute_evidence_due
    body.order = order
    body.hold = hold
    body.dispute = dispute
    body.evidence_due_ms = evidence_due_ms
    return event


def dispute_ended(order: str, dispute: str, known: Dispute, *, won: bool) -> PaymentEvent:
    """A dispute ended."""
    event = PaymentEvent()
    body = event.dispute_won if won else event.dispute_lost
    body.order = order
    body.hold = known.hold
    body.dispute = dispute
    body.amount_minor = minor(known.withdrawn_amount)
    body.currency = known.currency
    return event


def fraud_warning_received(order: str, hold: str, warning: str, reason: str) -> PaymentEvent:
    """The card network suspects fraud."""
    event = PaymentEvent()
    body = event.fraud_warning_received
    body.order = order
    body.hold = hold
    body.warning = warning
    body.reason = reason
    return event


# Books of the provider ----------------------------------------------------------------------------------------------


def external_operation_recorded(
    order: str, hold: str, operation: int, amount: int, currency: str, reference: str
) -> PaymentEvent:
    """A person acted at the provider."""
    event = PaymentEvent()
    body = event.external_operation_recorded
    body.order = order
    body.hold = hold
    body.operation = operation  # type: ignore[assignment] # an Operation by its number
    body.amount_minor = minor(amount)
    body.currency = currency
    body.reference = reference
    return event


def fee_charged(order: str, news: OutcomeFee, currency: str) -> PaymentEvent:
    """The provider charged a fee."""
    event = PaymentEvent()
    body = event.fee_charged
    body.order = order
    body.hold = news.hold
    body.reference = news.reference
    body.amount_minor = signed(news.amount_minor)
    body.currency = currency
    body.kind = news.kind
    return event


def paid_out(order: str, news: OutcomePaidOut, currency: str) -> PaymentEvent:
    """The provider paid money of the order out."""
    event = PaymentEvent()
    body = event.paid_out
    body.order = order
    body.hold = news.hold
    body.reference = news.reference
    body.amount_minor = signed(news.amount_minor)
    body.currency = currency
    body.payout = news.payout
    return event


# Holds and calls ----------------------------------------------------------------------------------------------------


def hold_checked(order: str, call: Call, *, ended: bool) -> PaymentEvent:
    """The check of a hold ended."""
    event = PaymentEvent()
    body = event.hold_checked
    body.order = order
    body.hold = call.hold
    body.attempt = call.attempt
    body.ended = ended
    return event


def hold_lost(order: str, hold: str, reason: str) -> PaymentEvent:
    """The order's hold ended while its group formed."""
    event = PaymentEvent()
    event.hold_lost.order = order
    event.hold_lost.hold = hold
    event.hold_lost.reason = reason
    return event


def capture_at_risk(order: str, hold: str, capture_before_ms: int) -> PaymentEvent:
    """The hold ends soon, and is not captured."""
    event = PaymentEvent()
    event.capture_at_risk.order = order
    event.capture_at_risk.hold = hold
    event.capture_at_risk.capture_before_ms = capture_before_ms
    return event


def call_given_up(order: str, call: Call, error: str) -> PaymentEvent:
    """A call is not retried by itself any more."""
    event = PaymentEvent()
    body = event.call_given_up
    body.order = order
    body.operation = call.operation
    body.attempt = call.attempt
    body.error = error
    return event


# Operators ----------------------------------------------------------------------------------------------------------


def operator_acted(command: OperatorCommand, refusal: str) -> PaymentEvent:
    """An operator's command is decided."""
    event = PaymentEvent()
    body = event.operator_acted
    action: OperatorAction = command.action
    body.order = action.order
    body.request_id = command.request_id
    body.operator = command.operator
    body.reason = command.reason
    body.action.CopyFrom(action)
    body.refusal = refusal
    return event


def suspense_approved(order: str, hold: str) -> PaymentEvent:
    """An operator approved the return of unexpected funds."""
    event = PaymentEvent()
    event.suspense_approved.order = order
    event.suspense_approved.hold = hold
    return event


def suspense_kept(order: str, hold: str, amount: int, currency: str) -> PaymentEvent:
    """An operator assigned unexpected funds to the merchant."""
    event = PaymentEvent()
    body = event.suspense_kept
    body.order = order
    body.hold = hold
    body.amount_minor = minor(amount)
    body.currency = currency
    return event


def ledger_adjusted(proposal: str, wanted: Adjustment) -> PaymentEvent:
    """The ledger is adjusted."""
    event = PaymentEvent()
    body = event.ledger_adjusted
    body.order = wanted.order
    body.hold = wanted.hold
    body.from_account = wanted.from_account
    body.to_account = wanted.to_account
    body.amount_minor = minor(wanted.amount)
    body.currency = wanted.currency
    body.proposal = proposal
    return event
