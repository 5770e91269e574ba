"""The adapter to Stripe, with Stripe's own SDK: payment intents with manual capture, cancel, refunds.

The idempotency key is the call's. Stripe forgets keys after a day, so a call that may be older is looked up before it
is sent: a hold or a sale by Stripe's search over metadata (which lags by a minute, while the key is still honoured), a
refund in the list of its payment's refunds. A capture and a void can't happen twice to one payment intent; what stands
is read from it. Must never log the API key, nor trust an error to mean that nothing was done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

import stripe
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import (
    OUTCOME_ORIGIN_CALL,
    OUTCOME_ORIGIN_LOOKUP,
    ProviderOutcome,
)

from services.payments.providers.circuit_breaker import Breaker, State
from services.payments.providers.port import ResultUnknown, idempotency_key, outcome_of
from services.payments.providers.resolve import Limits, resolve
from services.payments.providers.stripe.amounts import NotRepresentable
from services.payments.providers.stripe.calls import MAKES, final_or_raise, raised

# It would write a line for each call, and one for each answer.
logging.getLogger("stripe").setLevel(logging.WARNING)

API = "https://api.stripe.com"

T = TypeVar("T")


class StripeProvider:
    """Stripe. Belongs to the event loop of its first call."""

    name = "stripe"

    def __init__(
        self,
        key: str,
        api_base: str = API,
        *,
        return_url: str = "",
        limits: Limits | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        """`return_url`: where a shopper goes after confirming on a page of Stripe's."""
        self._key = key
        self._api_base = api_base
        self._return_url = return_url
        self._limits = limits or Limits()
        self._breaker = breaker or Breaker(self.name)
        self._http: stripe.AIOHTTPClient | None = None
        self._client: stripe.StripeClient | None = None

    @property
    def well(self) -> bool:
        """Whether it is asked at present."""
        return self._breaker.state is State.CLOSED

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Makes a call and says what came of it. See Provider."""
        return await self._resolve(call, group, look_first=False)

    async def perform_again(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """The same for a call that may have been sent before. See Forgetful."""
        return await self._resolve(call, group, look_first=True)

    async def close(self) -> None:
        """Ends the connections."""
        if self._http is not None:
            await self._http.close_async()  # type: ignore[no-untyped-call]

    async def _resolve(self, call: ProviderCall, group: str, *, look_first: bool) -> ProviderOutcome:
        key = idempotency_key(call)
        makes = MAKES.get(call.operation)
        if makes is None:
            raise ValueError(f"{key}: unknown operation")
        made = makes(self._connected(), call, group, self._return_url)
        outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
        try:
            made.check()
        except NotRepresentable as error:
            outcome.declined.reason = str(error)
            return outcome

        async def send(timeout_s: float) -> ProviderOutcome:
            outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
            try:
                await _within(timeout_s, made.send(outcome))
            except stripe.StripeError as error:
                final_or_raise(outcome, error)
                await _within(timeout_s, made.refused(outcome))
            return outcome

        async def look_up(timeout_s: float) -> ProviderOutcome | None:
            outcome = outcome_of(call, OUTCOME_ORIGIN_LOOKUP)
            try:
                found = await _within(timeout_s, made.look_up(outcome))
            except stripe.StripeError as error:
                if error.http_status == 404:
                    return None
                raise raised(error) from error
            return outcome if found else None

        return await resolve(call, send, look_up, self._limits, self._breaker, look_first=look_first)

    def _connected(self) -> stripe.StripeClient:
        if self._client is None:
            self._http = stripe.AIOHTTPClient(timeout=self._limits.try_s)
            self._client = stripe.StripeClient(
                self._key,
                base_addresses={"api": self._api_base},
                http_client=self._http,
                # Tries are counted in resolve.py alone.
                max_network_retries=0,
            )
        return self._client


async def _within(timeout_s: float, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except TimeoutError as error:
        raise ResultUnknown("no answer in time") from error
