"""The idempotency key of a call, and the choice of its provider. Method: plain calls without a connection."""

from __future__ import annotations

import pytest
from groupbuy.payments.v1 import decisions_pb2 as d

from services.payments.providers.port import idempotency_key
from services.payments.providers.registry import Registry, simulated
from services.payments.providers.simulator_client.adapter import SimulatedProvider
from services.payments.providers.unconfigured import Unconfigured
from tests.contract.calls import GROUP, call_of


def test_the_idempotency_key_names_order_operation_and_attempt() -> None:
    assert idempotency_key(call_of(d.OPERATION_AUTHORISE, "card_ok")) == "a:authorise:1"
    assert idempotency_key(call_of(d.OPERATION_REFUND, "card_ok", attempt=12)) == "a:refund:12"


async def test_the_prefix_of_the_payment_method_chooses_the_provider() -> None:
    cards, stripe = SimulatedProvider("127.0.0.1:1"), Unconfigured("stripe", "not set")
    registry = Registry([cards, stripe])
    chosen = [registry.provider_for(method) for method in ("card_ok", "wallet_x", "stripe_pm_x", "wallet_stripe_pm_x")]
    assert chosen == [cards, cards, stripe, stripe]
    await registry.close()


@pytest.mark.parametrize("method", ["cardinal_ok", "pm_1Nabc", "paypal_x", "wechat_o1", ""])
async def test_a_method_without_a_provider_is_declined_and_its_existing_money_waits(method: str) -> None:
    registry = simulated("127.0.0.1:1")
    provider = registry.provider_for(method)
    assert provider.name == "unknown"
    assert (await provider.perform(call_of(d.OPERATION_AUTHORISE, method), GROUP)).declined.reason
    for operation in (d.OPERATION_CAPTURE, d.OPERATION_VOID, d.OPERATION_REFUND):
        outcome = await provider.perform(call_of(operation, method, hold="h"), GROUP)
        assert outcome.not_possible.after_ms > 0
    await registry.close()
