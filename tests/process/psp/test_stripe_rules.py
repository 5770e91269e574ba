"""Rules of Stripe's API that the simulator follows where it is configured to: keys, search, amounts, payment methods.

Method: HTTP to the whole simulator in this process, with a manual clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from tests.process.psp.http_client import FORM, Simulator, simulator

DAY_MS = 86_400_000
INTENTS = "/v1/payment_intents"


@pytest.fixture
async def psp(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with simulator(tmp_path) as made:
        yield made


async def search(psp: Simulator, query: str) -> list[str]:
    return [one["id"] for one in (await psp.get(f"{INTENTS}/search", query=query))["data"]]


async def test_a_key_keeps_a_failure_for_its_life(psp: Simulator) -> None:
    await psp.configure(key_life_ms=DAY_MS, fail_after_per_mille=1000)
    status, failed, headers = await psp.post(INTENTS, **FORM)
    assert (status, "Idempotent-Replayed" in headers) == (500, False)
    await psp.configure(key_life_ms=DAY_MS)
    psp.now_ms += DAY_MS - 1
    again, body, headers = await psp.post(INTENTS, **FORM)
    assert (again, body, headers["Idempotent-Replayed"]) == (500, failed, "true")
    assert len(await search(psp, "metadata['order']:'a'")) == 1, "the call had taken effect"


async def test_a_key_keeps_a_success_and_a_decline_and_rejects_another_request(psp: Simulator) -> None:
    await psp.configure(key_life_ms=DAY_MS)
    first, again = [await psp.post(INTENTS, **FORM) for _ in range(2)]
    assert first[:2] == again[:2]
    assert again[2]["Idempotent-Replayed"] == "true"
    status, body, _ = await psp.post(INTENTS, **{**FORM, "amount": "1"})
    assert (status, body["error"]["type"]) == (400, "idempotency_error")
    declined = {**FORM, "payment_method": "pm_declined"}
    assert [(await psp.post(INTENTS, "k2", **declined))[0] for _ in range(2)] == [402, 402]


async def test_an_expired_key_makes_a_new_payment_with_the_same_metadata(psp: Simulator) -> None:
    await psp.configure(key_life_ms=DAY_MS)
    form = {**FORM, "metadata[key]": "k1"}
    _, first, _ = await psp.post(INTENTS, **form)
    psp.now_ms += DAY_MS
    _, second, headers = await psp.post(INTENTS, **form)
    assert first["id"] != second["id"]
    assert "Idempotent-Replayed" not in headers
    assert second["metadata"] == first["metadata"] == {"key": "k1", "order": "a", "group": "g"}
    assert await search(psp, "metadata['key']:'k1'") == [second["id"], first["id"]]


async def test_a_refused_request_is_not_kept(psp: Simulator) -> None:
    await psp.configure(key_life_ms=DAY_MS, limited_per_mille=1000, retry_after_s=7)
    status, _, headers = await psp.post(INTENTS, **FORM)
    assert (status, headers["Retry-After"]) == (429, "7")
    await psp.configure(key_life_ms=DAY_MS)
    assert (await psp.post(INTENTS, **{**FORM, "amount": "0"}))[0] == 400
    assert (await psp.post(INTENTS, **FORM))[0] == 200


async def test_a_key_in_use_is_a_conflict(psp: Simulator) -> None:
    await psp.configure(key_life_ms=DAY_MS, latency_min_ms=300, latency_max_ms=300)
    statuses = [made[0] for made in await asyncio.gather(*(psp.post(INTENTS, **FORM) for _ in range(3)))]
    assert sorted(statuses) == [200, 409, 409]


async def test_a_search_finds_a_payment_after_its_lag(psp: Simulator) -> None:
    await psp.configure(search_lag_ms=60_000)
    intent = await psp.paid()
    query = "metadata['order']:'a' AND metadata['group']:'g'"
    assert await search(psp, query) == []
    psp.now_ms += 60_000
    assert await search(psp, query) == [intent]
    assert await search(psp, "metadata['order']:'a' AND metadata['group']:'h'") == []
    assert (await psp.get(f"{INTENTS}/{intent}"))["id"] == intent


async def test_two_environments_share_an_account(psp: Simulator) -> None:
    for name in ("blue", "green"):
        await psp.paid(name, **{"metadata[environment]": name, "metadata[key]": name})
    (green,) = await search(psp, "metadata['order']:'a' AND metadata['environment']:'green'")
    assert (await psp.get(f"{INTENTS}/{green}"))["metadata"]["environment"] == "green"
    assert len(await search(psp, "metadata['order']:'a'")) == 2
    refund = {"payment_intent": green, "amount": "5", "metadata[environment]": "green", "metadata[key]": "r"}
    _, made, _ = await psp.post("/v1/refunds", "r", **refund)
    assert made["metadata"] == {"environment": "green", "key": "r"}
    _, bare, _ = await psp.post("/v1/refunds", "r2", payment_intent=green, amount="5")
    assert bare["metadata"] == {}
    listed = await psp.get("/v1/refunds", payment_intent=green)
    assert sorted(len(one["metadata"]) for one in listed["data"]) == [0, 2]


async def test_small_amounts_are_refused_where_configured(psp: Simulator) -> None:
    small = {**FORM, "currency": "eur", "amount": "49"}
    await psp.configure(minimum_amounts=True)
    status, body, _ = await psp.post(INTENTS, **small)
    assert (status, body["error"]["code"]) == (400, "amount_too_small")
    assert (await psp.post(INTENTS, **{**small, "amount": "50"}))[0] == 200
    await psp.configure()
    assert (await psp.post(INTENTS, "k2", **small))[0] == 200


async def test_a_three_decimal_amount_is_a_multiple_of_ten(psp: Simulator) -> None:
    assert (await psp.post(INTENTS, **{**FORM, "currency": "kwd", "amount": "7995"}))[0] == 400


async def test_a_payment_method_without_a_customer_works_once(psp: Simulator) -> None:
    await psp.configure(single_use_methods=True)
    assert (await psp.post(INTENTS, **FORM))[0] == 200
    assert (await psp.post(INTENTS, **FORM))[0] == 200, "a repeated call"
    status, body, _ = await psp.post(INTENTS, "k2", **FORM)
    assert (status, body["error"]["param"]) == (400, "payment_method")


async def test_a_saved_payment_method_is_its_customers(psp: Simulator) -> None:
    await psp.configure(single_use_methods=True)
    _, customer, _ = await psp.post("/v1/customers", "c1")
    saved = {**FORM, "customer": customer["id"], "setup_future_usage": "off_session"}
    assert (await psp.post(INTENTS, **saved))[0] == 200
    assert (await psp.get("/v1/payment_methods/pm_card_ok"))["customer"] == customer["id"]
    later = {**FORM, "customer": customer["id"], "off_session": "true"}
    status, intent, _ = await psp.post(INTENTS, "k2", **later)
    assert (status, intent["customer"]) == (200, customer["id"])
    assert (await psp.post(INTENTS, "k3", **FORM))[0] == 400
    status, body, _ = await psp.post(INTENTS, "k4", **{**later, "customer": "cus_other"})
    assert (status, body["error"]["param"]) == (400, "payment_method")
    assert (await psp.post("/v1/payment_methods/pm_card_ok/attach", "k5", customer="cus_other"))[0] == 400


async def test_a_shopper_who_is_not_there_can_not_confirm(psp: Simulator) -> None:
    form = {**FORM, "payment_method": "pm_card_action", "off_session": "true"}
    status, body, _ = await psp.post(INTENTS, **form)
    assert (status, body["error"]["code"]) == (402, "authentication_required")


async def test_a_refused_refund_and_one_of_a_disputed_charge_have_stripes_codes(psp: Simulator) -> None:
    await psp.configure(refund_refuse_per_mille=1000)
    intent = await psp.paid()
    status, body, _ = await psp.post("/v1/refunds", "r1", payment_intent=intent)
    assert (status, body["error"]["code"]) == (400, "charge_not_refundable")
    await psp.configure(dispute_per_mille=0)
    await psp.stub.OpenDispute(pb.OpenDisputeRequest(hold=intent), timeout=5)
    status, body, _ = await psp.post("/v1/refunds", "r2", payment_intent=intent)
    assert (status, body["error"]["code"]) == (400, "charge_disputed")


def pb_dispute(intent: str) -> pb.OpenDisputeRequest:
    return pb.OpenDisputeRequest(hold=intent)
