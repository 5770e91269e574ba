"""Adapter to Stripe with Stripe's own SDK: payment intents with manual capture, cancellations, refunds.

Stripe's idempotency key is the call's. Keys expire after a day, so a call that may be older is looked up before it is
sent: a hold or a sale by Stripe's search over metadata (which lags by a minute, while the key is still honoured), a
refund in the list of its payment's refunds. A capture or a void can't happen twice to one payment intent; its state is
the result. The API key is not logged, and an error alone is no proof that nothing was done.

Stripe keeps the answer to a key, a 500 included, and repeats it. After a repeated failure only a look-up can tell: if
it finds nothing, the call is ABSENT, and the next attempt has another key.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import stripe
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import (
    OUTCOME_ORIGIN_CALL,
    OUTCOME_ORIGIN_LOOKUP,
    ProviderOutcome,
)

from chassis.outside.call_errors import CallError, NotPossibleNow, NotYet, ReplayedFailure, ResultUnknown
from chassis.outside.circuit_breaker import CircuitBreaker
from chassis.outside.resolve import RetryPolicy
from services.payments.providers.call_limiter import CallLimiter
from services.payments.providers.port import Claim, ResolvingProvider, Unaddressed, idempotency_key, outcome_of
from services.payments.providers.stripe import mapping
from services.payments.providers.stripe.amounts import NotRepresentable
from services.payments.providers.stripe.calls import CALLS, CallSettings
from services.payments.providers.stripe.errors import call_error, set_declined_or_raise
from shared_kernel.payment_providers import CAPABILITIES, STRIPE

# The SDK logs two lines for each call at INFO.
logging.getLogger("stripe").setLevel(logging.WARNING)

API = "https://api.stripe.com"
#: Holds whose failures Stripe repeats, until its search must have found them. The oldest one is evicted.
MAX_REPLAYED = 10_000

T = TypeVar("T")


class StripeProvider(ResolvingProvider):
    """Stripe, for one account. Bound to the event loop of its first call."""

    name = STRIPE

    def __init__(
        self,
        key: str | Callable[[], str],
        api_base: str = API,
        *,
        settings: CallSettings | None = None,
        policy: RetryPolicy | None = None,
        breaker: CircuitBreaker | None = None,
        limiter: CallLimiter | None = None,
    ) -> None:
        """`key`: the secret key, or a function that returns the current one."""
        self._key: Callable[[], str] = key if callable(key) else lambda: str(key)
        self._api_base = api_base
        self._settings = settings or CallSettings()
        super().__init__(policy, breaker, limiter)
        self._http: stripe.AIOHTTPClient | None = None
        self._client: tuple[str, stripe.StripeClient] | None = None
        #: When a repeated failure was first seen, in seconds of the loop's clock, by idempotency key.
        self._replayed: OrderedDict[str, float] = OrderedDict()

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Makes a call and returns its outcome. See Provider."""
        return await self._resolve(call, group, look_first=False)

    async def perform_again(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Same for a call that may have been sent before. See ExpiringIdempotency."""
        return await self._resolve(call, group, look_first=True)

    async def locate(self, notification: Unaddressed, timeout_s: float) -> Claim | None:
        """The order in the metadata of a payment intent. See Locates."""
        await self._limiter.acquire()
        intents = self._connected().v1.payment_intents
        try:
            found: Any = await _within(timeout_s, intents.retrieve_async(notification.hold))
        except stripe.StripeError as error:
            if error.http_status == 404:
                return None
            raise call_error(error) from error
        metadata = dict(found.to_dict().get("metadata") or {})
        group, order = str(metadata.get(mapping.GROUP, "")), str(metadata.get(mapping.ORDER, ""))
        if not group or not order:
            return None
        outcome = notification.outcome
        outcome.order = order
        outcome.environment = str(metadata.get(mapping.ENVIRONMENT, ""))
        return group, outcome

    async def close(self) -> None:
        """Closes the connections."""
        if self._http is not None:
            await self._http.close_async()  # type: ignore[no-untyped-call]

    async def _resolve(self, call: ProviderCall, group: str, *, look_first: bool) -> ProviderOutcome:
        key = idempotency_key(call)
        make = CALLS.get(call.operation)
        if make is None:
            raise ValueError(f"{key}: unknown operation")
        stripe_call = make(self._connected(), call, group, self._settings)
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
                try:
                    set_declined_or_raise(outcome, error)
                except CallError as failed:
                    self._note(key, error, failed)
                    raise
                await _within(timeout_s, stripe_call.read_after_refusal(outcome))
            return self._ours(outcome)

        async def look_up(timeout_s: float) -> ProviderOutcome | None:
            outcome = outcome_of(call, OUTCOME_ORIGIN_LOOKUP)
            try:
                found = await _within(timeout_s, stripe_call.look_up(outcome))
            except stripe.StripeError as error:
                raise call_error(error) from error
            if found:
                return self._ours(outcome)
            if stripe_call.searches:
                self._wait_for_search(key)
            return None

        return await self.resolve(call, send, look_up, look_first=look_first)

    def _note(self, key: str, error: stripe.StripeError, failed: CallError) -> None:
        """Remembers a repeated failure, and pauses after a 429."""
        if error.http_status == 429:
            self._limiter.pause(failed.after_ms)
        if isinstance(failed, ReplayedFailure):
            self._replayed.setdefault(key, asyncio.get_running_loop().time())
            while len(self._replayed) > MAX_REPLAYED:
                self._replayed.popitem(last=False)

    def _wait_for_search(self, key: str) -> None:
        """Raises NotYet while a search that finds nothing proves nothing about a call whose failure is repeated."""
        since_s = self._replayed.get(key)
        if since_s is None:
            return
        left_ms = CAPABILITIES[STRIPE].search_lag_ms - int((asyncio.get_running_loop().time() - since_s) * 1000)
        if left_ms > 0:
            raise NotYet("Stripe repeats a failure, and its search may lag", after_ms=left_ms)
        del self._replayed[key]

    def _ours(self, outcome: ProviderOutcome) -> ProviderOutcome:
        """The outcome itself. Raises NotPossibleNow for an object of another deployment on the same account."""
        if self._settings.is_ours(outcome.environment):
            return outcome
        raise NotPossibleNow(f"the payment belongs to the deployment {outcome.environment[:50]!r}")

    def _connected(self) -> stripe.StripeClient:
        key = self._key()
        if self._client is None or self._client[0] != key:
            if self._http is None:
                self._http = stripe.AIOHTTPClient(timeout=self.policy.attempt_s)
            client = stripe.StripeClient(
                key,
                base_addresses={"api": self._api_base},
                http_client=self._http,
                # chassis.outside.resolve alone counts attempts.
                max_network_retries=0,
            )
            self._client = key, client
        return self._client[1]


async def _within(timeout_s: float, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except TimeoutError as error:
        raise ResultUnknown("no answer in time") from error
