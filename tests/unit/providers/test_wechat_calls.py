"""Requests to WeChat Pay and the meaning of its answers. Method: the adapter against a scripted server on this machine
that signs as WeChat Pay does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.payments.v1.decisions_pb2 import ProviderCall

from chassis.outside.resolve import RetryPolicy
from services.payments.providers.port import Unaddressed
from services.payments.providers.wechat import adapter, references
from services.payments.providers.wechat.adapter import WeChatProvider
from services.payments.providers.wechat.client import WeChatClient
from simulators.psp.wechat.signer import Signer
from tests.provider_simulator import merchant

GROUP, ORDER = "0f1e2d3c-0000-4000-8000-000000000001", "0f1e2d3c-0000-4000-8000-000000000002"
Script = dict[str, list[tuple[int, dict[str, Any], Mapping[str, str]]]]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signer, Path]:
    directory = tmp_path_factory.mktemp("keys")
    return Signer(directory), directory


@asynccontextmanager
async def served(
    keys: tuple[Signer, Path], environment: str = ""
) -> AsyncIterator[tuple[Script, list[tuple[str, dict[str, Any]]], WeChatProvider]]:
    """The script by `METHOD path`, the requests that arrived, and an adapter that calls the server."""
    script: Script = {}
    sent: list[tuple[str, dict[str, Any]]] = []

    async def answer(request: web.Request) -> web.Response:
        text = await request.text()
        route = f"{request.method} {request.path}"
        sent.append((route, json.loads(text) if text else {}))
        answers = script.get(route, [(404, {"code": "ORDER_NOT_EXIST", "message": "订单不存在"}, {})])
        status, body, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        content = json.dumps(body).encode()
        return web.Response(status=status, body=content, headers={**keys[0].sign(content), **headers})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        client = WeChatClient(merchant(keys[1]), str(server.make_url("")))
        policy = RetryPolicy(attempts=3, attempt_s=10, budget_s=20, wait_s=0.001)
        one = WeChatProvider(
            client, notify_url="https://shop.example/webhooks/wechat", environment=environment, policy=policy
        )
        try:
            yield script, sent, one
        finally:
            await one.close()


def call(operation: d.Operation.ValueType, **fields: Any) -> ProviderCall:
    hold = "" if operation == d.OPERATION_SALE else "trade01"
    made = {"order": ORDER, "attempt": 1, "amount_minor": 8900, "currency": "CNY", "hold": hold}
    return ProviderCall(**{**made, "operation": operation, "payment_method": "wallet_wechat_native", **fields})


NUMBER = references.trade_number(call(d.OPERATION_SALE))
PAY, QUERY = "POST /v3/pay/transactions/native", f"GET /v3/pay/transactions/out-trade-no/{NUMBER}"


def transaction(state: str, **more: Any) -> dict[str, Any]:
    return {
        "out_trade_no": NUMBER,
        "trade_state": state,
        "attach": f"{GROUP}/{ORDER}/sale/1",
        "amount": {"total": 8900, "currency": "CNY"},
        **more,
    }


async def test_a_sale_names_its_deployment_and_another_deployments_payment_is_no_result(
    keys: tuple[Signer, Path],
) -> None:
    async with served(keys, "production") as (script, sent, one):
        script[PAY] = [(200, {"code_url": "weixin://a"}, {})]
        script[QUERY] = [(200, transaction("SUCCESS", attach=f"{GROUP}/{ORDER}/sale/1/production"), {})]
        held = (await one.perform(call(d.OPERATION_SALE), GROUP)).authorised
        assert (held.amount_minor, held.currency) == (8900, "CNY")
        assert sent[0][1]["attach"] == f"{GROUP}/{ORDER}/sale/1/production"
        script[QUERY] = [(200, transaction("SUCCESS", attach=f"{GROUP}/{ORDER}/sale/1/staging"), {})]
        assert "staging" in (await one.perform(call(d.OPERATION_SALE), GROUP)).not_possible.error


async def test_a_payment_link_is_requested_again_before_it_expires(
    keys: tuple[Signer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(keys) as (script, sent, one):
        script[PAY] = [(200, {"code_url": f"weixin://{name}"}, {}) for name in ("first", "second")]
        script[QUERY] = [(200, transaction("NOTPAY"), {})]
        urls = [(await one.perform(call(d.OPERATION_SALE), GROUP)).action_required.action_url for _ in range(2)]
        assert urls == ["weixin://first"] * 2
        monkeypatch.setattr(adapter, "ACTION_URL_S", 0.0)
        # Every link is old now; the next request asks for another one under the same number.
        script[QUERY] = [(200, transaction("NOTPAY"), {})]
        await one.perform(call(d.OPERATION_SALE), GROUP)
        numbers = {body["out_trade_no"] for route, body in sent if route == PAY}
        assert numbers == {NUMBER}
        assert len([route for route, _ in sent if route == PAY]) >= 3


@pytest.mark.parametrize("operation", [d.OPERATION_VOID, d.OPERATION_REFUND])
async def test_a_payment_that_the_account_does_not_have_is_no_decline(
    keys: tuple[Signer, Path], operation: d.Operation.ValueType
) -> None:
    async with served(keys) as (_, _, one):
        assert (await one.perform(call(operation), GROUP)).not_possible.error


async def test_a_rate_limit_waits_as_long_as_wechat_asks(keys: tuple[Signer, Path]) -> None:
    async with served(keys) as (script, sent, one):
        limited = {"code": "FREQUENCY_LIMITED", "message": "频率超限"}
        script[PAY] = [(429, limited, {"Retry-After": "9"})]
        assert (await one.perform(call(d.OPERATION_SALE), GROUP)).retry_later.after_ms == 9_000
        other = call(d.OPERATION_SALE, order="0f1e2d3c-0000-4000-8000-000000000003")
        assert (await one.perform(other, GROUP)).retry_later.after_ms > 7_000
        assert len(sent) == 1


async def test_a_complaint_is_a_dispute_of_the_order_that_its_payment_names(keys: tuple[Signer, Path]) -> None:
    async with served(keys) as (script, _, one):
        complaint = {
            "complaint_id": "c1",
            "complaint_time": "2025-08-28T10:00:00+08:00",
            "complaint_detail": "没有收到货",
            "complaint_state": "PENDING",
            "problem_type": "REFUND",
            "complaint_order_info": [{"transaction_id": "42", "out_trade_no": NUMBER, "amount": 8900}],
        }
        script["GET /v3/merchant-service/complaints-v2/c1"] = [(200, complaint, {})]
        script[QUERY] = [(200, transaction("SUCCESS", attach=f"{GROUP}/{ORDER}/sale/1/staging"), {})]
        claim = await one.locate(Unaddressed("", i.ProviderOutcome(), subject="c1"), 5)
        assert claim is not None
        group, outcome = claim
        assert (group, outcome.order, outcome.environment) == (GROUP, ORDER, "staging")
        assert outcome.dispute == i.OutcomeDispute(
            hold=NUMBER,
            dispute="c1",
            state=i.DISPUTE_STATE_OPEN,
            amount_minor=8900,
            currency="CNY",
            reason="REFUND",
        )
        script["GET /v3/merchant-service/complaints-v2/c1"] = [(200, {**complaint, "complaint_state": "PROCESSED"}, {})]
        ended = await one.locate(Unaddressed("", i.ProviderOutcome(), subject="c1"), 5)
        assert ended is not None
        assert ended[1].dispute.state == i.DISPUTE_STATE_WON


async def test_a_refund_made_by_hand_is_of_the_order_that_its_payment_names(keys: tuple[Signer, Path]) -> None:
    async with served(keys) as (script, _, one):
        script[QUERY] = [(200, transaction("REFUND"), {})]
        claim = await one.locate(Unaddressed(NUMBER, i.ProviderOutcome()), 5)
        assert claim is not None
        assert (claim[0], claim[1].order) == (GROUP, ORDER)
        script[QUERY] = [(200, transaction("REFUND", attach="of another system"), {})]
        assert await one.locate(Unaddressed(NUMBER, i.ProviderOutcome()), 5) is None
        assert await one.locate(Unaddressed("unknown", i.ProviderOutcome()), 5) is None
