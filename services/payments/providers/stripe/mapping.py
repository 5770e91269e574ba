"""Stripe's payment intents, refunds and errors as outcomes, for calls and webhooks alike.

Reads plain mappings, so that an answer of the SDK and the body of a webhook are read the same way. An outcome reports
money as taken, held or absent only if Stripe's object does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from chassis.outside.call_errors import NotYet
from services.payments.providers.stripe.amounts import from_stripe
from shared_kernel.payment_providers import CAPABILITIES, STRIPE

#: Metadata keys of Stripe's objects that name the order, the group, the calls and the deployment.
ORDER, GROUP, KEY, CAPTURE_KEY, ENVIRONMENT = "order", "group", "key", "capture_key", "environment"
#: Cancellation reasons of intents that expired.
EXPIRED_REASONS = frozenset({"automatic", "expired"})
_TOKEN = re.compile(r"\b(pm|card|src|tok|cus|sk|rk|pi_\w+_secret)_\w{4,}?(\w{4})\b", re.ASCII)


def set_held(outcome: ProviderOutcome, intent: Mapping[str, Any]) -> None:
    """Result of the call that made a payment intent. Raises NotYet while the intent is not final."""
    currency = currency_of(intent)
    outcome.environment = environment_of(intent)
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
            set_captured(outcome, intent)
        case "requires_action":
            outcome.action_required.hold = intent["id"]
            outcome.action_required.action_url = _action_url(intent)
        case "requires_payment_method":
            outcome.declined.reason = reason_of(intent.get("last_payment_error") or {})
        case "canceled":
            set_cancelled(outcome, intent)
        case status:
            raise NotYet(f"the payment intent is {status}")


def set_captured(outcome: ProviderOutcome, intent: Mapping[str, Any]) -> None:
    """Result of a capture."""
    currency = currency_of(intent)
    outcome.environment = environment_of(intent)
    outcome.captured.hold = intent["id"]
    outcome.captured.amount_minor = from_stripe(intent["amount_received"], currency)
    outcome.captured.currency = currency


def set_cancelled(outcome: ProviderOutcome, intent: Mapping[str, Any]) -> None:
    """Result of a cancellation: hold_gone if the intent expired, otherwise voided."""
    outcome.environment = environment_of(intent)
    if intent.get("cancellation_reason") in EXPIRED_REASONS:
        outcome.hold_gone.hold = intent["id"]
    else:
        outcome.voided.hold = intent["id"]


def set_refunded(outcome: ProviderOutcome, refund: Mapping[str, Any]) -> None:
    """Result of a refund. Raises NotYet while the refund is not final."""
    outcome.environment = environment_of(refund)
    match refund["status"]:
        case "succeeded":
            currency = currency_of(refund)
            outcome.refunded.hold = refund["payment_intent"]
            outcome.refunded.amount_minor = from_stripe(refund["amount"], currency)
            outcome.refunded.currency = currency
            outcome.refunded.reference = refund["id"]
        case "failed" | "canceled":
            outcome.declined.reason = refund_failure(refund)
        case status:
            raise NotYet(f"the refund is {status}")


def refund_failure(refund: Mapping[str, Any]) -> str:
    """Reason of a refund that failed, for people."""
    return f"the refund {refund['status']}: {refund.get('failure_reason') or 'no reason'}"


def reason_of(error: Mapping[str, Any]) -> str:
    """Reason of a decline, for people. It is stored in decisions, so tokens are cut."""
    code = error.get("decline_code") or error.get("code") or ""
    message = without_tokens(str(error.get("message") or "declined"))
    return f"{message} ({code})" if code else message


def without_tokens(text: str) -> str:
    """A text of Stripe's with tokens of payment methods, customers and keys cut to their last four characters."""
    return _TOKEN.sub(r"\1_…\2", text)


def currency_of(found: Mapping[str, Any]) -> str:
    """ISO 4217 code of an object."""
    return str(found["currency"]).upper()


def environment_of(found: Mapping[str, Any]) -> str:
    """Id of the deployment that made an object; empty if its metadata names none."""
    return str((found.get("metadata") or {}).get(ENVIRONMENT, ""))


def _until_ms(intent: Mapping[str, Any]) -> int:
    """End of a hold: the charge's own, or the shortest life of a card network if the charge is not in the object."""
    charge = intent.get("latest_charge")
    network = ""
    if isinstance(charge, Mapping):
        card = (charge.get("payment_method_details") or {}).get("card") or {}
        if card.get("capture_before"):
            return int(card["capture_before"]) * 1000
        network = str(card.get("network") or card.get("brand") or "")
    return int(intent.get("created") or 0) * 1000 + CAPABILITIES[STRIPE].hold_life_ms(network)


def _action_url(intent: Mapping[str, Any]) -> str:
    action = intent.get("next_action") or {}
    url = (action.get("redirect_to_url") or {}).get("url")
    # Without a redirect, the shopper's app confirms with Stripe's client library, given this secret.
    return str(url or f"stripe:{intent.get('client_secret', '')}")
