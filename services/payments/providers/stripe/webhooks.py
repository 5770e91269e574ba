"""Stripe's webhooks: events about payment intents, refunds, disputes and fraud warnings, signed with HMAC-SHA256.

Metadata names the group and the call. An event about a payment intent without it is ignored, as the account may serve
other systems too. Refunds made in Stripe's dashboard, disputes and fraud warnings have no metadata of ours; the
metadata of their payment intent names the order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i

from services.payments.providers.notifications import HmacReader, OtherEnvironment, news, outcome_of_key
from services.payments.providers.port import Claim, Unaddressed
from services.payments.providers.stripe import mapping
from services.payments.providers.stripe.amounts import from_stripe

#: Statuses of a dispute that has ended.
_ENDED = {"won": i.DISPUTE_STATE_WON, "warning_closed": i.DISPUTE_STATE_WON, "lost": i.DISPUTE_STATE_LOST}
_FAILED = frozenset({"failed", "canceled"})


class StripeWebhooks(HmacReader):
    """Reader of Stripe's webhooks."""

    header = "stripe-signature"

    def __init__(
        self,
        secrets: Callable[[], Sequence[str]],
        now_s: Callable[[], float] = time.time,
        live: Callable[[], bool] | None = None,
    ) -> None:
        """`live` says whether our key is one of live mode; None: not known."""
        super().__init__(secrets, now_s)
        self._live = live

    def claim_of(self, event: Any) -> Claim | Unaddressed | None:
        """The claim of an event. Raises NotYet, OtherEnvironment."""
        live = event.get("livemode")
        if self._live is not None and isinstance(live, bool) and live != self._live():
            raise OtherEnvironment("of live mode" if live else "of test mode")
        kind, found = str(event["type"]), event["data"]["object"]
        if kind.startswith("payment_intent."):
            return _of_intent(kind, found)
        if kind.startswith("refund."):
            return _of_refund(found)
        if kind.startswith("charge.dispute."):
            return _of_dispute(found)
        return _of_fraud_warning(found) if kind == "radar.early_fraud_warning.created" else None


def _of_intent(kind: str, found: Mapping[str, Any]) -> Claim | None:
    metadata = found.get("metadata") or {}
    outcome = outcome_of_key(str(metadata.get(mapping.KEY, "")))
    group = str(metadata.get(mapping.GROUP, ""))
    if outcome is None or not group:
        return None
    match kind:
        case "payment_intent.succeeded" if outcome.operation == d.OPERATION_AUTHORISE:
            capture = outcome_of_key(str(metadata.get(mapping.CAPTURE_KEY, "")))
            if capture is None:
                # None of our captures: a person captured it in Stripe's dashboard.
                outcome = _captured_by_hand(outcome.order, found)
            else:
                outcome = capture
                mapping.set_captured(outcome, found)
        case "payment_intent.canceled":
            # A cancellation names no call. The decider knows whether one is pending.
            order, outcome = outcome.order, news()
            outcome.order, outcome.operation = order, d.OPERATION_VOID
            mapping.set_cancelled(outcome, found)
        case (
            "payment_intent.succeeded"
            | "payment_intent.amount_capturable_updated"
            | "payment_intent.requires_action"
            | "payment_intent.payment_failed"
        ):
            mapping.set_held(outcome, found)
        case _:
            return None
    return group, outcome


def _captured_by_hand(order: str, intent: Mapping[str, Any]) -> i.ProviderOutcome:
    outcome, currency = news(), mapping.currency_of(intent)
    outcome.order = order
    outcome.environment = mapping.environment_of(intent)
    charge = intent.get("latest_charge")
    reference = charge.get("id") if isinstance(charge, Mapping) else charge
    outcome.external.hold = intent["id"]
    outcome.external.operation = d.OPERATION_CAPTURE
    outcome.external.amount_minor = from_stripe(intent["amount_received"], currency)
    outcome.external.currency = currency
    outcome.external.reference = str(reference or f"{intent['id']}:capture")
    return outcome


def _of_refund(refund: Mapping[str, Any]) -> Claim | Unaddressed | None:
    metadata = refund.get("metadata") or {}
    outcome, group = outcome_of_key(str(metadata.get(mapping.KEY, ""))), str(metadata.get(mapping.GROUP, ""))
    ours = outcome is not None and bool(group)
    if outcome is None or not ours:
        outcome = news()
    currency, hold = mapping.currency_of(refund), str(refund.get("payment_intent") or "")
    if refund["status"] in _FAILED:
        outcome.environment = mapping.environment_of(refund)
        outcome.refund_reversed.hold = hold
        outcome.refund_reversed.amount_minor = from_stripe(refund["amount"], currency)
        outcome.refund_reversed.currency = currency
        outcome.refund_reversed.reason = mapping.refund_failure(refund)
        outcome.refund_reversed.reference = refund["id"]
    elif ours:
        mapping.set_refunded(outcome, refund)
    elif refund["status"] == "succeeded":
        outcome.external.hold = hold
        outcome.external.operation = d.OPERATION_REFUND
        outcome.external.amount_minor = from_stripe(refund["amount"], currency)
        outcome.external.currency = currency
        outcome.external.reference = refund["id"]
    else:
        # Its end comes with another event.
        return None
    if ours:
        return group, outcome
    # A refund of a charge without a payment intent is none of ours.
    return Unaddressed(hold, outcome) if hold else None


def _of_dispute(dispute: Mapping[str, Any]) -> Unaddressed | None:
    outcome, currency = news(), mapping.currency_of(dispute)
    hold = str(dispute.get("payment_intent") or "")
    if not hold:
        return None
    amount = from_stripe(dispute["amount"], currency)
    withdrawals = [one for one in dispute.get("balance_transactions") or () if int(one["amount"]) < 0]
    made = outcome.dispute
    made.hold = hold
    made.dispute = dispute["id"]
    made.state = _ENDED.get(str(dispute["status"]), i.DISPUTE_STATE_OPEN)
    made.amount_minor = amount
    made.currency = currency
    # A withdrawal may be in the currency of the merchant's account; the disputed amount is in that of the payment.
    made.withdrawn_minor = amount if withdrawals else 0
    made.fee_minor = sum(
        from_stripe(int(one.get("fee") or 0), currency) for one in withdrawals if mapping.currency_of(one) == currency
    )
    made.reason = str(dispute.get("reason") or "")
    made.evidence_due_ms = int((dispute.get("evidence_details") or {}).get("due_by") or 0) * 1000
    return Unaddressed(hold, outcome)


def _of_fraud_warning(warning: Mapping[str, Any]) -> Unaddressed | None:
    hold = str(warning.get("payment_intent") or "")
    if not hold:
        return None
    outcome = news()
    outcome.fraud_warning.hold = hold
    outcome.fraud_warning.warning = warning["id"]
    outcome.fraud_warning.reason = str(warning.get("fraud_type") or "")
    return Unaddressed(hold, outcome)
