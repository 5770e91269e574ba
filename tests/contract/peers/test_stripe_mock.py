"""Stripe's mock server accepts each request of our adapter: it validates them against Stripe's OpenAPI.

Method: the adapter calls the mock through a proxy that records the answers. The mock's objects are fixtures, so results
are not compared; the proxy sets their status where the adapter's next request depends on it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i

from chassis.outside.resolve import RetryPolicy
from services.payments.providers.port import Unaddressed
from services.payments.providers.stripe.adapter import StripeProvider
from services.payments.providers.stripe.calls import CALLS, CallSettings
from tests.contract.calls import GROUP, call_of
from tests.contract.peers.fetched import PeerMissing
from tests.contract.peers.recording_proxy import RecordingProxy, recording
from tests.contract.peers.stripe_mock import serving

KEY = "sk_test_123"
#: One attempt, so that a refused request is seen as such.
POLICY = RetryPolicy(attempts=1, attempt_s=10, budget_s=20, wait_s=0.01)
#: Long after the links of the mock's fixtures expired.
LATE_S = 4_000_000_000.0
#: What each operation requests.
REQUESTS = {
    d.OPERATION_AUTHORISE: {("POST", "/v1/payment_intents")},
    d.OPERATION_SALE: {("POST", "/v1/payment_intents")},
    d.OPERATION_CAPTURE: {("POST", "/v1/payment_intents/*/capture")},
    d.OPERATION_VOID: {("POST", "/v1/payment_intents/*/cancel")},
    d.OPERATION_REFUND: {("POST", "/v1/refunds")},
    d.OPERATION_CHECK: {("GET", "/v1/payment_intents/*")},
}
LOOK_UPS = {
    d.OPERATION_AUTHORISE: {("GET", "/v1/payment_intents/search"), ("GET", "/v1/payment_intents/*")},
    d.OPERATION_SALE: {("GET", "/v1/payment_intents/search"), ("GET", "/v1/payment_intents/*")},
    d.OPERATION_CAPTURE: {("GET", "/v1/payment_intents/*")},
    d.OPERATION_VOID: {("GET", "/v1/payment_intents/*")},
    d.OPERATION_REFUND: {("GET", "/v1/refunds")},
    d.OPERATION_CHECK: {("GET", "/v1/payment_intents/*")},
}


@pytest.fixture(scope="module")
def mock() -> Iterator[str]:
    try:
        with serving() as url:
            yield url
    except PeerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
async def proxy(mock: str) -> AsyncIterator[RecordingProxy]:
    async with recording(mock) as made:
        yield made


@pytest.fixture
async def provider(proxy: RecordingProxy) -> AsyncIterator[StripeProvider]:
    settings = CallSettings(
        return_url="https://shop.example/paid", environment="blue", extended=True, now_s=lambda: LATE_S
    )
    made = StripeProvider(KEY, proxy.url, settings=settings, policy=POLICY)
    yield made
    await made.close()


def accepted(proxy: RecordingProxy) -> set[tuple[str, str]]:
    """Requests by method and path, without ids. All of them were accepted."""
    refused = [one for one in proxy.exchanges if one.status != 200]
    assert refused == []
    ids = r"/(pi|re|pm|ch)_[^/]+"
    return {(one.method, re.sub(ids, "/*", one.path)) for one in proxy.exchanges}


def test_each_operation_of_the_adapter_has_its_requests_here() -> None:
    assert set(REQUESTS) == set(LOOK_UPS) == set(CALLS)


@pytest.mark.parametrize("operation", sorted(REQUESTS))
async def test_a_call_is_accepted(
    provider: StripeProvider, proxy: RecordingProxy, operation: d.Operation.ValueType
) -> None:
    proxy.statuses = {"payment_intent": "requires_capture", "refund": "succeeded"}
    await provider.perform(call_of(operation, "stripe_pm_card_visa", hold="pi_1"), GROUP)
    assert accepted(proxy) == REQUESTS[operation]


@pytest.mark.parametrize("operation", sorted(LOOK_UPS))
async def test_a_look_up_is_accepted(
    provider: StripeProvider, proxy: RecordingProxy, operation: d.Operation.ValueType
) -> None:
    proxy.statuses = {"payment_intent": "requires_capture", "refund": "succeeded"}
    await provider.perform_again(call_of(operation, "stripe_pm_card_visa", hold="pi_1"), GROUP)
    assert accepted(proxy) >= LOOK_UPS[operation]


async def test_a_first_and_a_renewed_hold_of_a_saved_card_are_accepted(
    provider: StripeProvider, proxy: RecordingProxy
) -> None:
    proxy.statuses = {"payment_intent": "requires_capture"}
    for attempt in (1, 2):
        call = call_of(d.OPERATION_AUTHORISE, "stripe_cus_123.pm_card_visa", attempt=attempt)
        await provider.perform(call, GROUP)
    assert accepted(proxy) == {("POST", "/v1/payment_intents"), ("GET", "/v1/payment_methods/*")}
    assert "setup_future_usage=off_session" in proxy.exchanges[0].form
    assert all("customer=cus_123" in one.form for one in proxy.exchanges if one.method == "POST")


async def test_the_renewal_of_an_expired_link_is_accepted(provider: StripeProvider, proxy: RecordingProxy) -> None:
    proxy.statuses = {"payment_intent": "requires_action"}
    await provider.perform(call_of(d.OPERATION_AUTHORISE, "stripe_pm_card_visa"), GROUP)
    assert ("POST", "/v1/payment_intents/*/confirm") in accepted(proxy)


async def test_a_refund_that_is_pending_is_read_again(provider: StripeProvider, proxy: RecordingProxy) -> None:
    proxy.statuses = {"refund": "pending"}
    await provider.perform(call_of(d.OPERATION_REFUND, "stripe_pm_card_visa", hold="pi_1"), GROUP)
    assert accepted(proxy) >= {("POST", "/v1/refunds"), ("GET", "/v1/refunds/*")}


async def test_the_payment_of_a_notification_is_looked_up(provider: StripeProvider, proxy: RecordingProxy) -> None:
    await provider.locate(Unaddressed("pi_1", i.ProviderOutcome()), 10)
    assert accepted(proxy) == {("GET", "/v1/payment_intents/*")}


async def test_the_mock_refuses_a_parameter_that_stripe_does_not_have(mock: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    form = {"amount": "100", "currency": "eur", "amuont": "100"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{mock}/v1/payment_intents", data=form) as answer,
    ):
        assert answer.status == 400
        assert "additional properties" in (await answer.json())["error"]["message"]
