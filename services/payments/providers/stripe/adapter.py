"""Adapter to Stripe with Stripe's own SDK: payment intents with manual capture, cancellations, refunds.

Stripe's idempotency key is the call's. Keys expire after a day, so a call that may be older is looked up before it is
sent: a hold or a sale by Stripe's search over metadata (which lags by a minute, while the key is still honoured), a
refund in the list of its payment's refunds. A capture or a void can't happen twice to one payment intent; its state is
the result. The API key is not logged, and an error alone is no proof that nothing was done.
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

from chassis.outside.call_errors import ResultUnknown
from chassis.outside.circuit_breaker import CircuitBreaker
from chassis.outside.resolve import RetryPolicy
from services.payments.providers.port import ResolvingProvider, idempotency_key, outcome_of
from services.payments.providers.stripe.amounts import NotRepresentable
from services.payments.providers.stripe.calls import CALLS, call_error, set_declined_or_raise

# The SDK logs two lines for each call at INFO.
logging.getLogger("stripe").setLevel(logging.WARNING)

API = "https://api.stripe.com"

T = TypeVar("T")


class StripeProvider(ResolvingProvider):
    """Stripe, for one account. Bound to the event loop of its first call."""

    name = "stripe"

    def __init__(
        self,
        key: str,
        api_base: str = API,
        *,
        return_url: str = "",
        policy: RetryPolicy | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        """`return_url`: the page that Stripe sends a shopper to after a confirmation."""
        self._key = key
        self._api_base = api_base
        self._return_url = return_url
        super().__init__(policy, breaker)
        self._http: stripe.AIOHTTPClient | None = None
        self._client: stripe.StripeClient | None = None

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Makes a call and returns its outcome. See Provider."""
        return await self._resolve(call, group, look_first=False)

    async def perform_again(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Same for a call that may have been sent before. See ExpiringIdempotency."""
        return await self._resolve(call, group, look_first=True)

    async def close(self) -> None:
        """Closes the connections."""
        if self._http is not None:
            await self._http.close_async()  # type: ignore[no-untyped-call]

    async def _resolve(self, call: ProviderCall, group: str, *, look_first: bool) -> ProviderOutcome:
        key = idempotency_key(call)
        make = CALLS.get(call.operation)
        if make is None:
            raise ValueError(f"{key}: unknown operation")
        stripe_call = make(self._connected(), call, group, self._return_url)
        outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
        try:
            stripe_call.check()
        except NotRepresentable as error:
            outcome.declined.reason = str(error)
            return outcome

        async def send(timeout_s: float) -> ProviderOutcome:
            outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
            try:
                await _within(timeout_s, stripe_call.send(outcome))
            except stripe.StripeError as error:
                set_declined_or_raise(outcome, error)
                await _within(timeout_s, stripe_call.read_after_refusal(outcome))
            return outcome

        async def look_up(timeout_s: float) -> ProviderOutcome | None:
            outcome = outcome_of(call, OUTCOME_ORIGIN_LOOKUP)
            try:
                found = await _within(timeout_s, stripe_call.look_up(outcome))
            except stripe.StripeError as error:
                if error.http_status == 404:
                    return None
                raise call_error(error) from error
            return outcome if found else None

        return await self.resolve(call, send, look_up, look_first=look_first)

    def _connected(self) -> stripe.StripeClient:
        if self._client is None:
            self._http = stripe.AIOHTTPClient(timeout=self.policy.attempt_s)
            self._client = stripe.StripeClient(
                self._key,
                base_addresses={"api": self._api_base},
                http_client=self._http,
                # chassis.outside.resolve alone counts attempts.
                max_network_retries=0,
            )
        return self._client


async def _within(timeout_s: float, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except TimeoutError as error:
        raise ResultUnknown("no answer in time") from error
