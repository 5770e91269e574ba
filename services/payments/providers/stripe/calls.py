"""Calls to Stripe, one class for each operation: send, look up, and read the state after a refusal.

Objects of the SDK stay inside this module; mapping.py turns them into outcomes.

A payment method is `{payment method}` for one payment, or `{customer}.{payment method}` for a card that Stripe saves: a
hold that the shopper makes asks for it (setup_future_usage), and a later one for the same order, when the first has
lapsed, uses the saved card without the shopper (off_session).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import stripe
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_LOOKUP, ProviderOutcome

from services.payments.providers.port import idempotency_key, outcome_of
from services.payments.providers.stripe import mapping
from services.payments.providers.stripe.amounts import to_stripe
from services.payments.providers.stripe.errors import call_error
from shared_kernel.payment_providers import CAPABILITIES, STRIPE, token_of

CHARGE = "latest_charge"
#: Separates Stripe's customer from the payment method in a token.
SAVED = "."


@dataclass(frozen=True, slots=True)
class CallSettings:
    """The common parts of an account's calls."""

    #: Page that Stripe sends a shopper to after a confirmation; empty for none.
    return_url: str = ""
    #: Id of the deployment, in the metadata of each object; empty for none.
    environment: str = ""
    #: Whether holds ask for an extended authorisation. Stripe refuses that from an account without the feature.
    extended: bool = False
    now_s: Callable[[], float] = time.time

    def is_ours(self, environment: str) -> bool:
        """Whether an object with a deployment's id is ours. One without an id is: it may be older than the setting."""
        return environment in ("", self.environment)


class Call:
    """One call to Stripe."""

    #: Whether a look-up searches, and so may miss what was just made.
    searches: ClassVar[bool] = False
    #: Whether the amount is a part of a charge that exists.
    part: ClassVar[bool] = True

    def __init__(self, client: stripe.StripeClient, call: ProviderCall, group: str, settings: CallSettings) -> None:
        self._v1 = client.v1
        self._call = call
        self._settings = settings
        self._key = idempotency_key(call)
        self._options: Any = {"idempotency_key": self._key}
        self._metadata = {mapping.ORDER: call.order, mapping.GROUP: group, mapping.KEY: self._key}
        if settings.environment:
            self._metadata[mapping.ENVIRONMENT] = settings.environment

    @property
    def _amount(self) -> int:
        return to_stripe(self._call.amount_minor, self._call.currency, part=self.part)

    def check(self) -> None:
        """Raises NotRepresentable for an amount that Stripe can't represent."""
        to_stripe(self._call.amount_minor, self._call.currency, part=self.part)

    async def send(self, outcome: ProviderOutcome) -> None:
        """Makes the call and sets the result. Raises StripeError, NotYet."""
        raise NotImplementedError

    async def look_up(self, outcome: ProviderOutcome) -> bool:
        """Sets the result; returns False if Stripe has none. Raises StripeError, NotYet."""
        raise NotImplementedError

    async def read_after_refusal(self, outcome: ProviderOutcome) -> None:
        """Replaces a refusal by the state of the payment, if that already is a result of this call."""


class _Hold(Call):
    searches = True
    part = False

    async def send(self, outcome: ProviderOutcome) -> None:
        call, sale = self._call, self._call.operation == d.OPERATION_SALE
        customer, method = _customer_and_method(call.payment_method)
        params: Any = {
            "amount": self._amount,
            "currency": call.currency.lower(),
            "payment_method": method,
            "payment_method_types": ["card"],
            "capture_method": "automatic" if sale else "manual",
            "confirm": True,
            "metadata": self._metadata,
            "expand": [CHARGE],
        }
        if self._settings.return_url:
            params["return_url"] = self._settings.return_url
        if self._settings.extended and not sale:
            params["payment_method_options"] = {"card": {"request_extended_authorization": "if_available"}}
        if customer:
            params["customer"] = customer
            if await self._is_saved(customer, method):
                params["off_session"] = True
            else:
                params["setup_future_usage"] = "off_session"
        intent: Any = await self._v1.payment_intents.create_async(params, self._options)
        if intent["status"] == "requires_action":
            # Stripe replays the first answer to a key. The intent itself shows whether the shopper has confirmed since.
            intent = await self._current(intent["id"])
        mapping.set_held(outcome, _plain(intent))

    async def _is_saved(self, customer: str, method: str) -> bool:
        """Whether the shopper need not be present: a further attempt, with a card that an earlier one has saved."""
        if self._call.attempt == 1:
            return False
        found: Any = await self._v1.payment_methods.retrieve_async(method)
        return bool(_plain(found).get("customer") == customer)

    async def _current(self, intent: str) -> Any:
        """A payment intent. A link that the shopper should open is renewed when it is old."""
        found: Any = await self._v1.payment_intents.retrieve_async(intent, {"expand": [CHARGE]})
        if found["status"] != "requires_action":
            return found
        age_ms = int(self._settings.now_s() * 1000) - int(_plain(found).get("created") or 0) * 1000
        renewals = age_ms // CAPABILITIES[STRIPE].action_link_ms if _plain(found).get("created") else 0
        if renewals < 1:
            return found
        params: Any = {"expand": [CHARGE]}
        if self._settings.return_url:
            params["return_url"] = self._settings.return_url
        options: Any = {"idempotency_key": f"{self._key}:link:{renewals}"}
        try:
            return await self._v1.payment_intents.confirm_async(intent, params, options)
        except stripe.InvalidRequestError:
            # Confirmed or cancelled meanwhile. The next poll reads the new state.
            return found

    async def look_up(self, outcome: ProviderOutcome) -> bool:
        query = f"metadata['{mapping.KEY}']:'{self._key}'"
        found: Any = await self._v1.payment_intents.search_async({"query": query})
        for one in found["data"]:
            if not self._settings.is_ours(mapping.environment_of(_plain(one))):
                continue
            # The search index lags by up to a minute; the intent itself does not.
            mapping.set_held(outcome, _plain(await self._current(one["id"])))
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


class _Check(Call):
    """Reads the state of a hold; nothing is sent that Stripe could do twice."""

    def check(self) -> None:
        """Does nothing: a check has no amount."""

    async def send(self, outcome: ProviderOutcome) -> None:
        intent: Any = await self._v1.payment_intents.retrieve_async(self._call.hold, {"expand": [CHARGE]})
        mapping.set_held(outcome, _plain(intent))

    async def look_up(self, outcome: ProviderOutcome) -> bool:
        await self.send(outcome)
        return True


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
CALLS: Mapping[d.Operation.ValueType, Callable[[stripe.StripeClient, ProviderCall, str, CallSettings], Call]] = {
    d.OPERATION_AUTHORISE: _Hold,
    d.OPERATION_SALE: _Hold,
    d.OPERATION_CAPTURE: _Capture,
    d.OPERATION_VOID: _Void,
    d.OPERATION_REFUND: _Refund,
    d.OPERATION_CHECK: _Check,
}


def _customer_and_method(payment_method: str) -> tuple[str, str]:
    """Stripe's customer, empty for none, and payment method in our payment method."""
    customer, _, method = token_of(payment_method).rpartition(SAVED)
    return customer, method


def _plain(answer: Any) -> Mapping[str, Any]:
    """An object of the SDK as a plain mapping."""
    return dict(answer.to_dict())
