"""The idempotency key of a call, and the choice of its provider. Method: plain calls without a connection."""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as d

from services.payments.providers.port import idempotency_key
from services.payments.providers.registry import Registry, simulated
from services.payments.providers.simulator_client.adapter import SimulatedProvider
from tests.contract.calls import call_of


def test_the_idempotency_key_names_order_operation_and_attempt() -> None:
    assert idempotency_key(call_of(d.OPERATION_AUTHORISE, "card_ok")) == "a:authorise:1"
    assert idempotency_key(call_of(d.OPERATION_REFUND, "card_ok", attempt=12)) == "a:refund:12"


async def test_the_prefix_of_the_payment_method_chooses_the_provider() -> None:
    cards, rest = SimulatedProvider("127.0.0.1:1"), SimulatedProvider("127.0.0.1:2")
    registry = Registry({"card": cards}, rest)
    assert [registry.provider_for(method) for method in ("card_ok", "cardinal_ok", "wallet_x", "")] == [
        cards,
        rest,
        rest,
        rest,
    ]
    await registry.close()
    everything = simulated("127.0.0.1:1")
    assert {everything.provider_for(method).name for method in ("card_ok", "wallet_ok", "other")} == {"simulated"}
    await everything.close()
