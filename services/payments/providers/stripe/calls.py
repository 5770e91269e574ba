"""Calls to Stripe, one class for each operation: send, look up, and read the state after a refusal.

Objects of the SDK stay inside this module; mapping.py turns them into outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import stripe
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_LOOKUP, ProviderOutcome

from chassis.outside.call_errors import CallError, KeyReused, NotPossibleNow, ResultUnknown
from services.payments.providers.port import idempotency_key, outcome_of
from services.payments.providers.stripe import mapping
from services.payments.providers.stripe.amounts import to_stripe

#: Prefix of a payment method, before Stripe's own id of it.
PREFIX = "stripe_"
CHARGE = "latest_charge"
#: Delay after a rate limit without Retry-After.
RATE_LIMITED_MS = 1_000


class Call:
    """One call to Stripe."""

    def __init__(self, client: stripe.StripeClient, call: ProviderCall, group: str, return_url: str) -> None:
        self._v1 = client.v1
        self._call = call
        self._return_url = return_url
        self._key = idempotency_key(call)
        self._options: Any = {"idempotency_key": self._key}
        self._metadata = {mapping.ORDER: call.order, mapping.GROUP: group, mapping.KEY: self._key}

    @property
    def _amount(self) -> int:
        return to_stripe(self._call.amount_minor, self._call.currency)

    def check(self) -> None:
        """Raises NotRepresentable for an amount that Stripe can't represent."""
        to_stripe(self._call.amount_minor, self._call.currency)

    async def send(self, outcome: ProviderOutcome) -> None:
        """Makes the call and sets the result. Raises StripeError, NotYet."""
        raise NotImplementedError

    async def look_up(self, outcome: ProviderOutcome) -> bool:
        """Sets the result; returns False if Stripe has none. Raises StripeError, NotYet."""
        raise NotImplementedError

    async def read_after_refusal(self, outcome: ProviderOutcome) -> None:
        """Replaces a refusal by the state of the payment, if that already is a result of this call."""


class _Hold(Call):
    async def send(self, outcome: ProviderOutcome) -> None:
        call = self._call
        params: Any = {
            "amount": self._amount,
            "currency": call.currency.lower(),
            "payment_method": call.payment_method.removeprefix(PREFIX),
            "payment_method_types": ["card"],
            "capture_method": "automatic" if call.operation == d.OPERATION_SALE else "manual",
            "confirm": True,
            "metadata": self._metadata,
            "expand": [CHARGE],
        }
        if self._return_url:
            params["return_url"] = self._return_url
        intent: Any = await self._v1.payment_intents.create_async(params, self._options)
        if intent["status"] == "requires_action":
            # Stripe replays the first answer to a key. The intent itself shows whether the shopper has confirmed since.
            intent = await self._v1.payment_intents.retrieve_async(intent["id"], {"expand": [CHARGE]})
        mapping.set_held(outcome, _plain(intent))

    async def look_up(self, outcome: ProviderOutcome) -> bool:
        query = f"metadata['{mapping.KEY}']:'{self._key}'"
        found: Any = await self._v1.payment_intents.search_async({"query": query})
        for one in found["data"]:
            # The search index lags by up to a minute; the intent itself does not.
            intent = await self._v1.payment_intents.retrieve_async(one["id"], {"expand": [CHARGE]})
            mapping.set_held(outcome, _plain(intent))
            return True
        return False


class _End(Call):
    """A capture or a void: its result is the state of the payment intent."""

    async def look_up(self, outcome: ProviderOutcome) -> bool:
        intent: Any = await self._v1.payment_intents.retrieve_async(self._call.hold)
        match intent["status"]:
            case "succeeded":
                mapping.set_captured(outcome, _plain(intent))
            case "canceled":
                mapping.set_cancelled(outcome, _plain(intent))
            case _:
                return False
        return True

    async def read_after_refusal(self, outcome: ProviderOutcome) -> None:
        try:
            current = outcome_of(self._call, OUTCOME_ORIGIN_LOOKUP)
            found = await self.look_up(current)
        except stripe.StripeError as error:
            if error.http_status == 404:
                return
            raise call_error(error) from error
        if found:
            outcome.CopyFrom(current)


class _Capture(_End):
    async def send(self, outcome: ProviderOutcome) -> None:
        params: Any = {"amount_to_capture": self._amount, "metadata": {mapping.CAPTURE_KEY: self._key}}
        intent = await self._v1.payment_intents.capture_async(self._call.hold, params, self._options)
        mapping.set_captured(outcome, _plain(intent))


class _Void(_End):
    def check(self) -> None:
        """Does nothing: a void has no amount."""

    async def send(self, outcome: ProviderOutcome) -> None:
        intent = await self._v1.payment_intents.cancel_async(self._call.hold, {}, self._options)
        mapping.set_cancelled(outcome, _plain(intent))


class _Refund(Call):
    async def send(self, outcome: ProviderOutcome) -> None:
        params: Any = {"payment_intent": self._call.hold, "amount": self._amount, "metadata": self._metadata}
        refund: Any = await self._v1.refunds.create_async(params, self._options)
        if refund["status"] != "succeeded":
            refund = await self._v1.refunds.retrieve_async(refund["id"])
        mapping.set_refunded(outcome, _plain(refund))

    async def look_up(self, outcome: ProviderOutcome) -> bool:
        found = await self._v1.refunds.list_async({"payment_intent": self._call.hold, "limit": 100})
        async for one in found.auto_paging_iter():
            refund = _plain(one)
            if (refund.get("metadata") or {}).get(mapping.KEY) == self._key:
                mapping.set_refunded(outcome, refund)
                return True
        return False


#: The class of each operation.
CALLS: Mapping[d.Operation.ValueType, Callable[[stripe.StripeClient, ProviderCall, str, str], Call]] = {
    d.OPERATION_AUTHORISE: _Hold,
    d.OPERATION_SALE: _Hold,
    d.OPERATION_CAPTURE: _Capture,
    d.OPERATION_VOID: _Void,
    d.OPERATION_REFUND: _Refund,
}


def _plain(answer: Any) -> Mapping[str, Any]:
    """An object of the SDK as a plain mapping."""
    return dict(answer.to_dict())


def set_declined_or_raise(outcome: ProviderOutcome, error: stripe.StripeError) -> None:
    """Sets DECLINED if Stripe refused for good; otherwise raises CallError."""
    if isinstance(error, stripe.CardError | stripe.InvalidRequestError):
        body: Any = error.json_body if isinstance(error.json_body, dict) else {}
        outcome.declined.reason = mapping.reason_of(body.get("error") or {"message": error.user_message})
        return
    raise call_error(error) from error


def call_error(error: stripe.StripeError) -> CallError:
    """The CallError of an error of the SDK."""
    # The error's own text may contain the request, so only its class, status and user message are kept.
    text = f"{type(error).__name__} {error.http_status or ''}: {error.user_message or ''}".strip()[:500]
    if isinstance(error, stripe.IdempotencyError):
        return KeyReused(text)
    if isinstance(error, stripe.RateLimitError):
        return ResultUnknown(text, after_ms=_after_ms(error))
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError | stripe.InvalidRequestError):
        return NotPossibleNow(text)
    # No connection, 409 (the same key is in flight), 5xx or an unreadable answer: the call may have taken effect.
    return ResultUnknown(text)


def _after_ms(error: stripe.StripeError) -> int:
    headers: Mapping[str, str] = error.headers or {}
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return int(text) * 1000 if text.isdecimal() and len(text) < 6 else RATE_LIMITED_MS
