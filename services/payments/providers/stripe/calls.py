"""Each call at Stripe: how it is sent, how it is looked up, and what stands there when it was refused.

Must never hand out an object of the SDK, nor report more than the object says (stripe_words.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import stripe
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_LOOKUP, ProviderOutcome

from services.payments.providers.port import (
    KeyTaken,
    NotPossibleNow,
    ProviderError,
    ResultUnknown,
    idempotency_key,
    outcome_of,
)
from services.payments.providers.stripe import mapping as words
from services.payments.providers.stripe.amounts import to_stripe

#: What stands before Stripe's own name of a payment method.
PREFIX = "stripe_"
CHARGE = "latest_charge"
#: What a rate limit asks for where it doesn't say.
LIMITED_MS = 1_000


class Call:
    """One call at Stripe: how it is sent, looked up, and read when it was refused."""

    def __init__(self, client: stripe.StripeClient, call: ProviderCall, group: str, return_url: str) -> None:
        self._v1 = client.v1
        self._call = call
        self._return_url = return_url
        self._key = idempotency_key(call)
        self._options: Any = {"idempotency_key": self._key}
        self._metadata = {words.ORDER: call.order, words.GROUP: group, words.KEY: self._key}

    @property
    def _amount(self) -> int:
        return to_stripe(self._call.amount_minor, self._call.currency)

    def check(self) -> None:
        """Raises NotRepresentable for an amount that Stripe can't take."""
        to_stripe(self._call.amount_minor, self._call.currency)

    async def send(self, outcome: ProviderOutcome) -> None:
        """Makes the call. Raises StripeError, NotYet."""
        raise NotImplementedError

    async def look_up(self, outcome: ProviderOutcome) -> bool:
        """What came of it; False: nothing is known of it. Raises StripeError, NotYet."""
        raise NotImplementedError

    async def refused(self, outcome: ProviderOutcome) -> None:
        """Stripe refused: the outcome says so, unless what stands there says more."""


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
            # The answer to a key never changes; whether the shopper has confirmed since, the intent itself says.
            intent = await self._v1.payment_intents.retrieve_async(intent["id"], {"expand": [CHARGE]})
        words.tell_held(outcome, _plain(intent))

    async def look_up(self, outcome: ProviderOutcome) -> bool:
        query = f"metadata['{words.KEY}']:'{self._key}'"
        found: Any = await self._v1.payment_intents.search_async({"query": query})
        for one in found["data"]:
            # The search index may be a minute old; the intent itself is not.
            intent = await self._v1.payment_intents.retrieve_async(one["id"], {"expand": [CHARGE]})
            words.tell_held(outcome, _plain(intent))
            return True
        return False


class _End(Call):
    """A capture or a void: what became of the payment intent tells."""

    async def look_up(self, outcome: ProviderOutcome) -> bool:
        intent: Any = await self._v1.payment_intents.retrieve_async(self._call.hold)
        match intent["status"]:
            case "succeeded":
                words.tell_captured(outcome, _plain(intent))
            case "canceled":
                words.tell_over(outcome, _plain(intent))
            case _:
                return False
        return True

    async def refused(self, outcome: ProviderOutcome) -> None:
        try:
            stands = outcome_of(self._call, OUTCOME_ORIGIN_LOOKUP)
            found = await self.look_up(stands)
        except stripe.StripeError as error:
            if error.http_status == 404:
                return
            raise raised(error) from error
        if found:
            outcome.CopyFrom(stands)


class _Capture(_End):
    async def send(self, outcome: ProviderOutcome) -> None:
        params: Any = {"amount_to_capture": self._amount, "metadata": {words.CAPTURE_KEY: self._key}}
        intent = await self._v1.payment_intents.capture_async(self._call.hold, params, self._options)
        words.tell_captured(outcome, _plain(intent))


class _Void(_End):
    def check(self) -> None:
        """A void names no amount."""

    async def send(self, outcome: ProviderOutcome) -> None:
        intent = await self._v1.payment_intents.cancel_async(self._call.hold, {}, self._options)
        words.tell_over(outcome, _plain(intent))


class _Refund(Call):
    async def send(self, outcome: ProviderOutcome) -> None:
        params: Any = {"payment_intent": self._call.hold, "amount": self._amount, "metadata": self._metadata}
        refund: Any = await self._v1.refunds.create_async(params, self._options)
        if refund["status"] != "succeeded":
            refund = await self._v1.refunds.retrieve_async(refund["id"])
        words.tell_refunded(outcome, _plain(refund))

    async def look_up(self, outcome: ProviderOutcome) -> bool:
        found = await self._v1.refunds.list_async({"payment_intent": self._call.hold, "limit": 100})
        async for one in found.auto_paging_iter():
            refund = _plain(one)
            if (refund.get("metadata") or {}).get(words.KEY) == self._key:
                words.tell_refunded(outcome, refund)
                return True
        return False


#: Which call makes which operation.
MAKES: Mapping[d.Operation.ValueType, Callable[[stripe.StripeClient, ProviderCall, str, str], Call]] = {
    d.OPERATION_AUTHORISE: _Hold,
    d.OPERATION_SALE: _Hold,
    d.OPERATION_CAPTURE: _Capture,
    d.OPERATION_VOID: _Void,
    d.OPERATION_REFUND: _Refund,
}


def _plain(answer: Any) -> Mapping[str, Any]:
    """An object of the SDK as a plain mapping."""
    return dict(answer.to_dict())


def final_or_raise(outcome: ProviderOutcome, error: stripe.StripeError) -> None:
    """DECLINED where Stripe says that it won't do this; else raises a ProviderError."""
    if isinstance(error, stripe.CardError | stripe.InvalidRequestError):
        body: Any = error.json_body if isinstance(error.json_body, dict) else {}
        outcome.declined.reason = words.reason_of(body.get("error") or {"message": error.user_message})
        return
    raise raised(error) from error


def raised(error: stripe.StripeError) -> ProviderError:
    """What an error of the SDK means for a call."""
    # Never the error itself: its text may hold what was sent.
    text = f"{type(error).__name__} {error.http_status or ''}: {error.user_message or ''}".strip()[:500]
    if isinstance(error, stripe.IdempotencyError):
        return KeyTaken(text)
    if isinstance(error, stripe.RateLimitError):
        return ResultUnknown(text, after_ms=_after_ms(error))
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError | stripe.InvalidRequestError):
        return NotPossibleNow(text)
    # No connection, 409 (the same key is under way), 5xx, what we can't read: it may have been done.
    return ResultUnknown(text)


def _after_ms(error: stripe.StripeError) -> int:
    headers: Mapping[str, str] = error.headers or {}
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return int(text) * 1000 if text.isdecimal() and len(text) < 6 else LIMITED_MS
