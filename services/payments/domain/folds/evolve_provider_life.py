"""Applies the events about what a provider does by itself, and about operators. The others are in evolve.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as pb

from services.payments.domain.state.model import GroupPayments, Hold, Intent, Payment, RefundStatus
from services.payments.domain.state.provider_life import (
    NEVER_MS,
    Acted,
    Adjustment,
    Dispute,
    DisputeStatus,
    Owed,
    PaidRefund,
    action_digest,
    owed_key,
)


def fold_action(payments: GroupPayments, body: pb.OperatorActed) -> None:
    """Remembers an operator's command, and what it proposes or approves."""
    digest = action_digest(body.action, body.reason)
    payments.actions[body.request_id] = Acted(body.refusal, body.operator, digest)
    if body.refusal:
        return
    match body.action.WhichOneof("action"):
        case "adjust_ledger":
            wanted = body.action.adjust_ledger
            payments.adjustments[body.request_id] = Adjustment(
                body.action.order,
                wanted.hold,
                wanted.from_account,
                wanted.to_account,
                wanted.amount_minor,
                wanted.currency,
                body.operator,
            )
        case "approve_adjustment":
            payments.adjustments.pop(body.action.approve_adjustment.proposal, None)


# Money owed ---------------------------------------------------------------------------------------------------------


def _money_owed(payment: Payment, body: pb.MoneyOwed) -> None:
    name = owed_key(body.hold, body.refund)
    before = payment.debts.pop(name, None)
    if body.amount_minor:
        payment.debts[name] = Owed(
            body.hold,
            body.refund,
            body.amount_minor,
            body.currency,
            body.reason,
            body.failures,
            body.next_attempt_ms,
            body.alarm,
        )
    payment.owed += body.amount_minor - (0 if before is None else before.amount)
    if not body.refund:
        payment.holds.setdefault(body.hold, Hold(body.currency)).owed = body.amount_minor


def _refund_reversed(payment: Payment, body: pb.RefundReversed) -> None:
    amount = body.amount_minor
    if body.reference:
        (payment.external or {}).pop(body.reference, None)
    else:
        (payment.paid or {}).pop(body.attempt, None)
        amount -= _explain(payment, owed_key(body.hold, body.refund), body.excess_minor)
        if not amount:
            return
    hold = payment.holds.setdefault(body.hold, Hold(body.currency))
    if payment.intent is Intent.RELEASE and not hold.taken and body.hold == payment.hold:
        # The payment is reopened without its returned money: commanded refunds are all that was taken.
        hold.taken = payment.refunded
    if body.refund:
        payment.refunded -= amount
        if payment.refunds is not None and body.refund in payment.refunds:
            payment.refunds[body.refund].status = RefundStatus.REVERSED
        return
    if body.reference and payment.captured and payment.intent is Intent.CAPTURE and body.hold == payment.hold:
        charged = min(amount, payment.refunded)
        payment.refunded -= charged
        amount -= charged
    if hold.returned < amount:
        # The payment was reopened without the money that was returned before.
        hold.taken += amount - hold.returned
        hold.returned = 0
    else:
        hold.returned -= amount


def _explain(payment: Payment, name: str, amount: int) -> int:
    """Money that was returned twice is explained, at most by `amount`; returns by how much."""
    twice = (payment.returned_twice or {}).pop(name, 0)
    if payment.returned_twice is not None and twice > amount:
        payment.returned_twice[name] = twice - amount
    payment.returned_twice = payment.returned_twice or None
    return min(twice, amount)


def _returned_outside(payment: Payment, body: pb.ReturnedOutside) -> None:
    if body.refund:
        payment.refunded += body.amount_minor
        if payment.refunds is not None and body.refund in payment.refunds:
            payment.refunds[body.refund].status = RefundStatus.SUCCEEDED
    else:
        payment.holds.setdefault(body.hold, Hold(body.currency)).returned += body.amount_minor


# Disputes -----------------------------------------------------------------------------------------------------------


def _dispute_opened(payment: Payment, body: pb.DisputeOpened) -> None:
    disputes = payment.disputes = payment.disputes or {}
    disputes[body.dispute] = Dispute(
        body.hold,
        DisputeStatus.OPEN,
        body.amount_minor,
        body.currency,
        body.withdrawn_minor,
        body.fee_minor,
        body.evidence_due_ms,
    )


def _dispute_evidence_due(payment: Payment, body: pb.DisputeEvidenceDue) -> None:
    if payment.disputes is not None and body.dispute in payment.disputes:
        payment.disputes[body.dispute].evidence_due_ms = body.evidence_due_ms


def _end_dispute(status: DisputeStatus) -> Callable[[Payment, Any], None]:
    def end(payment: Payment, body: Any) -> None:
        if payment.disputes is not None and body.dispute in payment.disputes:
            payment.disputes[body.dispute].status = status

    return end


# Books of the provider ----------------------------------------------------------------------------------------------


def _remember(payment: Payment, reference: str) -> None:
    payment.references = (*payment.references, reference)


def _external_operation(payment: Payment, body: pb.ExternalOperationRecorded) -> None:
    _remember(payment, f"operation {body.reference}")
    if body.operation != pb.OPERATION_REFUND:
        return
    amount = body.amount_minor
    external = payment.external = payment.external or {}
    external[body.reference] = PaidRefund(body.hold, "", amount)
    hold = payment.holds.setdefault(body.hold, Hold(body.currency))
    if hold.suspense and hold.suspense_taken:
        returned = min(hold.suspense, amount)
        hold.suspense -= returned
        hold.taken += returned
    elif payment.captured and payment.intent is Intent.CAPTURE and body.hold == payment.hold:
        charged = max(min(amount, payment.captured - payment.refunded), 0)
        payment.refunded += charged
        amount -= charged
    hold.returned += amount


def _ledger_adjusted(payment: Payment, body: pb.LedgerAdjusted) -> None:
    """The adjustment explains money of its hold that went back twice."""
    left = body.amount_minor
    for name in tuple(payment.returned_twice or {}):
        if name.startswith(f"{body.hold} "):
            left -= _explain(payment, name, left)


def _suspense_kept(payment: Payment, body: pb.SuspenseKept) -> None:
    hold = payment.holds.setdefault(body.hold, Hold(body.currency))
    hold.suspense -= body.amount_minor
    hold.return_at_ms = 0


# Holds and calls ----------------------------------------------------------------------------------------------------


def _hold_lost(payment: Payment, body: pb.HoldLost) -> None:
    payment.lost = True


def _capture_at_risk(payment: Payment, body: pb.CaptureAtRisk) -> None:
    hold = payment.holds.get(body.hold)
    if hold is not None:
        hold.at_risk = True


def _call_given_up(payment: Payment, body: pb.CallGivenUp) -> None:
    call = payment.calls.get((body.operation, body.attempt))
    if call is not None:
        call.retry_at_ms = NEVER_MS


def _unchanged(payment: Payment, body: Any) -> None:
    """The event changes the books or the alarms, and not the payment."""


FOLDS: dict[str, Callable[[Payment, Any], None]] = {
    "money_owed": _money_owed,
    "refund_reversed": _refund_reversed,
    "returned_outside": _returned_outside,
    "dispute_opened": _dispute_opened,
    "dispute_evidence_due": _dispute_evidence_due,
    "dispute_won": _end_dispute(DisputeStatus.WON),
    "dispute_lost": _end_dispute(DisputeStatus.LOST),
    "fraud_warning_received": lambda payment, body: _remember(payment, f"warning {body.warning}"),
    "external_operation_recorded": _external_operation,
    "suspense_approved": _unchanged,
    "suspense_kept": _suspense_kept,
    "fee_charged": lambda payment, body: _remember(payment, f"fee {body.reference}"),
    "paid_out": lambda payment, body: _remember(payment, f"payout {body.reference}"),
    "ledger_adjusted": _ledger_adjusted,
    "hold_lost": _hold_lost,
    "capture_at_risk": _capture_at_risk,
    "call_given_up": _call_given_up,
}
