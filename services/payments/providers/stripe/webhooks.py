"""Stripe's webhooks: events about payment intents and refunds, signed with HMAC-SHA256.

Metadata names the group and the call. Events without it are ignored, as the account may serve other systems too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as d

from services.payments.providers.notifications import Claim, HmacReader, notified_outcome, outcome_of_key
from services.payments.providers.stripe import mapping


class StripeWebhooks(HmacReader):
    """Reader of Stripe's webhooks."""

    header = "stripe-signature"

    def claim_of(self, event: Any) -> Claim | None:
        """The claim of an event. Raises NotYet."""
        return _claim(str(event["type"]), event["data"]["object"])


def _claim(kind: str, found: Mapping[str, Any]) -> Claim | None:
    metadata = found.get("metadata") or {}
    outcome = outcome_of_key(str(metadata.get(mapping.KEY, "")))
    group = str(metadata.get(mapping.GROUP, ""))
    if outcome is None or not group:
        return None
    capture = outcome_of_key(str(metadata.get(mapping.CAPTURE_KEY, "")))
    match kind:
        case "payment_intent.succeeded" if outcome.operation == d.OPERATION_AUTHORISE:
            # Without a capture key, somebody captured it in Stripe's dashboard: the money was taken all the same.
            outcome = capture or notified_outcome(outcome.order, d.OPERATION_CAPTURE, 0)
            mapping.set_captured(outcome, found)
        case "payment_intent.canceled":
            # A cancellation names no call. No call has attempt 0, so the decider takes it as news.
            outcome = notified_outcome(outcome.order, d.OPERATION_VOID, 0)
            mapping.set_cancelled(outcome, found)
        case "refund.created" | "refund.updated" | "refund.failed":
            mapping.set_refunded(outcome, found)
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
