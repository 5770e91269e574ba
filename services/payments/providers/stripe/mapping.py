"""What Stripe's objects say, in the words of our outcomes: payment intents, refunds, errors. For calls and webhooks.

Reads plain mappings, so that an answer of the SDK and the body of a webhook are read the same way. Must never say that
money moved, is held or is absent unless the object says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from services.payments.providers.port import NotYet
from services.payments.providers.stripe.amounts import from_stripe

#: Where the names of our calls are kept in Stripe's metadata.
ORDER, GROUP, KEY, CAPTURE_KEY = "order", "group", "key", "capture_key"
#: Where a charge doesn't say until when it can be captured, as in events: the shortest time that a card network gives
#: to payments that the customer makes.
MIN_HOLD_MS = (6 * 24 + 18) * 3_600_000
#: Intents that Stripe itself ended, their time being over.
ENDED_BY_ITSELF = frozenset({"automatic", "expired"})


def tell_held(outcome: ProviderOutcome, intent: Mapping[str, Any]) -> None:
    """What a payment intent says of the call that was to make it. Raises NotYet where it says nothing final."""
    currency = str(intent["currency"]).upper()
    match intent["status"]:
        case "requires_capture":
            outcome.authorised.hold = intent["id"]
            outcome.authorised.amount_minor = from_stripe(intent["amount_capturable"], currency)
            outcome.authorised.currency = currency
            outcome.authorised.capturable_until_ms = _until_ms(intent)
        case "succeeded" if outcome.operation == d.OPERATION_SALE:
            outcome.authorised.hold = intent["id"]
            outcome.authorised.amount_minor = from_stripe(intent["amount_received"], currency)
            outcome.authorised.currency = currency
        case "succeeded":
            tell_captured(outcome, intent)
        case "requires_action":
            outcome.action_required.hold = intent["id"]
            outcome.action_required.action_url = _action_url(intent)
        case "requires_payment_method":
            outcome.declined.reason = reason_of(intent.get("last_payment_error") or {})
        case "canceled":
            tell_over(outcome, intent)
        case status:
            raise NotYet(f"the payment intent is {status}")


def tell_captured(outcome: ProviderOutcome, intent: Mapping[str, Any]) -> None:
    """Money was taken."""
    outcome.captured.hold = intent["id"]
    outcome.captured.amount_minor = from_stripe(intent["amount_received"], str(intent["currency"]).upper())


def tell_over(outcome: ProviderOutcome, intent: Mapping[str, Any]) -> None:
    """A payment intent was cancelled, by somebody or by itself."""
    if intent.get("cancellation_reason") in ENDED_BY_ITSELF:
        outcome.hold_gone.hold = intent["id"]
    else:
        outcome.voided.hold = intent["id"]


def tell_refunded(outcome: ProviderOutcome, refund: Mapping[str, Any]) -> None:
    """How a refund stands. Raises NotYet where that is not final."""
    match refund["status"]:
        case "succeeded":
            outcome.refunded.hold = refund["payment_intent"]
            outcome.refunded.amount_minor = from_stripe(refund["amount"], str(refund["currency"]).upper())
        case "failed" | "canceled":
            outcome.declined.reason = f"the refund {refund['status']}: {refund.get('failure_reason') or 'no reason'}"
        case status:
            raise NotYet(f"the refund is {status}")


def reason_of(error: Mapping[str, Any]) -> str:
    """Why a card was declined, for people."""
    code = error.get("decline_code") or error.get("code") or ""
    message = error.get("message") or "declined"
    return f"{message} ({code})" if code else str(message)


def _until_ms(intent: Mapping[str, Any]) -> int:
    charge = intent.get("latest_charge")
    if isinstance(charge, Mapping):
        card = (charge.get("payment_method_details") or {}).get("card") or {}
        if card.get("capture_before"):
            return int(card["capture_before"]) * 1000
    return int(intent.get("created") or 0) * 1000 + MIN_HOLD_MS


def _action_url(intent: Mapping[str, Any]) -> str:
    action = intent.get("next_action") or {}
    url = (action.get("redirect_to_url") or {}).get("url")
    # Without a page of Stripe's, the shopper's app confirms with Stripe's own library, by this secret.
    return str(url or f"stripe:{intent.get('client_secret', '')}")
