"""Stripe's objects about the merchant's money: balance transactions, payouts, disputes, early fraud warnings."""

from __future__ import annotations

from collections.abc import Mapping

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.balance import Booking
from simulators.psp.accounts.holds import Hold
from simulators.psp.accounts.incidents import Dispute
from simulators.psp.stripe import objects
from simulators.psp.stripe.objects import Json

#: Type and reporting category of a balance transaction.
KINDS: Mapping[pb.BalanceKind.ValueType, tuple[str, str]] = {
    pb.BALANCE_KIND_CHARGE: ("charge", "charge"),
    pb.BALANCE_KIND_REFUND: ("refund", "refund"),
    pb.BALANCE_KIND_REFUND_UNDONE: ("refund_failure", "refund_failure"),
    pb.BALANCE_KIND_DISPUTE: ("adjustment", "dispute"),
    pb.BALANCE_KIND_DISPUTE_REVERSAL: ("adjustment", "dispute_reversal"),
    pb.BALANCE_KIND_PAYOUT: ("payout", "payout"),
}
_DISPUTE_STATUS = {
    pb.DISPUTE_STATE_NEEDS_RESPONSE: "needs_response",
    pb.DISPUTE_STATE_UNDER_REVIEW: "under_review",
    pb.DISPUTE_STATE_WON: "won",
    pb.DISPUTE_STATE_LOST: "lost",
}


def source_id(booking: Booking) -> str:
    """Id of the object that a balance transaction is about."""
    match booking.kind:
        case pb.BALANCE_KIND_CHARGE:
            return objects.charge_id(booking.hold)
        case pb.BALANCE_KIND_REFUND | pb.BALANCE_KIND_REFUND_UNDONE:
            return objects.refund_id(booking.hold, booking.source)
        case _:
            return booking.source


def balance_transaction(booking: Booking, source: Json | None = None) -> Json:
    """A balance transaction; `source`: its object, if the caller expands it."""
    kind, category = KINDS[booking.kind]
    currency = booking.currency.lower()
    fee = {"amount": booking.fee_minor, "currency": currency, "type": "stripe_fee", "description": "Processing fees"}
    return {
        "id": booking.reference,
        "object": "balance_transaction",
        "amount": booking.amount_minor,
        "available_on": booking.at_ms // 1000,
        "created": booking.at_ms // 1000,
        "currency": currency,
        "description": None,
        "exchange_rate": None,
        "fee": booking.fee_minor,
        "fee_details": [fee] if booking.fee_minor else [],
        "net": booking.amount_minor - booking.fee_minor,
        "reporting_category": category,
        "source": source if source is not None else source_id(booking),
        "status": "available",
        "type": kind,
    }


def payout(booking: Booking) -> Json:
    """The payout of a balance transaction."""
    return {
        "id": booking.source,
        "object": "payout",
        "amount": -booking.amount_minor,
        "arrival_date": booking.at_ms // 1000,
        "automatic": True,
        "balance_transaction": booking.reference,
        "created": booking.at_ms // 1000,
        "currency": booking.currency.lower(),
        "livemode": False,
        "metadata": {},
        "method": "standard",
        "reconciliation_status": "completed",
        "status": "paid",
        "type": "bank_account",
    }


def dispute(made: Dispute, hold: Hold) -> Json:
    """A dispute. It has no metadata of the payment's."""
    return {
        "id": made.dispute,
        "object": "dispute",
        "amount": made.amount_minor,
        "balance_transactions": _moves(made),
        "charge": objects.charge_id(hold.hold),
        "created": made.opened_ms // 1000,
        "currency": made.currency.lower(),
        "evidence_details": {
            "due_by": made.evidence_due_ms // 1000,
            "has_evidence": made.state != pb.DISPUTE_STATE_NEEDS_RESPONSE,
            "past_due": False,
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": objects.intent_id(hold.hold),
        "reason": made.reason,
        "status": _DISPUTE_STATUS[made.state],
    }


def _moves(made: Dispute) -> list[Json]:
    """The balance transactions in a dispute: the withdrawal, and its reversal if the merchant has won."""
    taken = {"object": "balance_transaction", "currency": made.currency.lower(), "type": "adjustment"}
    moves = [
        {
            **taken,
            "amount": -made.amount_minor,
            "fee": made.fee_minor,
            "net": -made.amount_minor - made.fee_minor,
            "reporting_category": "dispute",
        }
    ]
    if made.state == pb.DISPUTE_STATE_WON:
        back = {"amount": made.amount_minor, "fee": 0, "net": made.amount_minor}
        moves.append({**taken, **back, "reporting_category": "dispute_reversal"})
    return moves


def fraud_warning(hold: Hold, at_ms: int) -> Json:
    """An early fraud warning."""
    return {
        "id": "issfr_" + hold.hold.removeprefix("hold_"),
        "object": "radar.early_fraud_warning",
        "actionable": hold.refunded_minor < hold.captured_minor,
        "charge": objects.charge_id(hold.hold),
        "created": at_ms // 1000,
        "fraud_type": "made_with_stolen_card",
        "livemode": False,
        "payment_intent": objects.intent_id(hold.hold),
    }
