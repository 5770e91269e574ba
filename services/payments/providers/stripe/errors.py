"""Errors of Stripe's SDK: which of them are declines, and which say nothing about the payment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import stripe
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from chassis.outside.call_errors import CallError, KeyReused, NotPossibleNow, NotYet, ReplayedFailure, ResultUnknown
from services.payments.domain.state.model import HOLD_OPENING
from services.payments.providers.stripe import mapping

#: Delay after a rate limit without Retry-After.
RATE_LIMITED_MS = 1_000
#: Header of an answer that Stripe stored for the idempotency key and repeats.
REPLAYED = "idempotent-replayed"
#: Error codes about our key, account or mode. They say nothing about the shopper's payment.
ACCOUNT_CODES = frozenset(
    {
        "account_closed",
        "account_invalid",
        "api_key_expired",
        "livemode_mismatch",
        "platform_account_required",
        "platform_api_key_expired",
        "secret_key_required",
        "testmode_charges_only",
        "tls_version_unsupported",
    }
)
#: Parameters of a call that the shopper chose. Another object that is missing is missing for our key.
_CHOSEN = frozenset({"payment_method", "customer"})


def set_declined_or_raise(outcome: ProviderOutcome, error: stripe.StripeError) -> None:
    """Sets DECLINED if Stripe refused for good; otherwise raises CallError."""
    if isinstance(error, stripe.CardError | stripe.InvalidRequestError) and not _about_account(outcome, error):
        body: Any = error.json_body if isinstance(error.json_body, dict) else {}
        outcome.declined.reason = mapping.reason_of(body.get("error") or {"message": error.user_message})
        return
    raise call_error(error) from error


def call_error(error: stripe.StripeError) -> CallError:
    """The CallError of an error of the SDK."""
    # The error's own text may contain the request, so only its class, status and user message are kept.
    message = mapping.without_tokens(error.user_message or "")
    text = f"{type(error).__name__} {error.http_status or ''}: {message}".strip()[:500]
    if isinstance(error, stripe.IdempotencyError):
        return KeyReused(text)
    if isinstance(error, stripe.RateLimitError) or error.http_status == 429:
        # Stripe did nothing.
        return NotYet(text, after_ms=_after_ms(error))
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError | stripe.InvalidRequestError):
        return NotPossibleNow(text)
    if (error.http_status or 0) >= 500 and _header(error, REPLAYED).lower() == "true":
        return ReplayedFailure(text)
    # No connection, 409 (the same key is in flight), 5xx or an unreadable answer: the call may have taken effect.
    return ResultUnknown(text)


def _about_account(outcome: ProviderOutcome, error: stripe.StripeError) -> bool:
    """Whether an error is about our key, account or mode, and not about the payment."""
    if error.code in ACCOUNT_CODES:
        return True
    if error.http_status != 404 and error.code != "resource_missing":
        return False
    param = getattr(error, "param", None)
    # A hold that we know of is missing only for another account, or in the other mode.
    other_mode = "similar object exists" in (error.user_message or "")
    return outcome.operation not in HOLD_OPENING or param not in _CHOSEN or other_mode


def _after_ms(error: stripe.StripeError) -> int:
    text = _header(error, "retry-after")
    return max(int(text) * 1000, RATE_LIMITED_MS) if text.isdecimal() and len(text) < 6 else RATE_LIMITED_MS


def _header(error: stripe.StripeError, name: str) -> str:
    headers: Mapping[str, str] = error.headers or {}
    return str(next((value for given, value in headers.items() if given.lower() == name), ""))
