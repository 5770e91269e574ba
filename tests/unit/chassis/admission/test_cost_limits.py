"""Responses that cost much are charged to the caller's identity."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from groupbuy.orders.v1 import orders_pb2

from chassis.admission.cost_limits import CostLimit
from chassis.admission.rate_limit import RateLimit
from chassis.identity.authorizer import Caller
from chassis.rpc import request_pipeline
from chassis.rpc.caller import IDENTITY
from chassis.rpc.errors import ApiError
from tests.unit.chassis.support import SOON_S, refusal, running


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_an_identity_in_debt_is_refused_until_its_rate_has_paid_it_off() -> None:
    clock = Clock()
    limit = CostLimit("pictures", RateLimit(10, 20), clock)
    IDENTITY.set("shop")
    limit.charge(15)
    limit.require()
    limit.charge(15)
    with pytest.raises(ApiError) as caught:
        limit.require()
    error = caught.value
    assert (error.code, error.reason_name) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert error.retry_after_ms == pytest.approx(1_000, abs=2)
    IDENTITY.set("support")
    limit.require()
    IDENTITY.set("shop")
    clock.now_s += 1.0
    limit.require()


def test_a_forwarded_call_is_not_charged_again() -> None:
    limit = CostLimit("pictures", RateLimit(1, 1), Clock())
    IDENTITY.set("")
    limit.charge(1_000)
    limit.require()


async def test_long_lists_are_refused_and_other_calls_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_pipeline, "LARGE_BYTES", RateLimit(1_000, 600_000))
    shop = Caller("shop", None)
    shop.shares = "shop"
    monkeypatch.setattr("chassis.identity.authorizer.LOCAL_CALLER", shop)
    async with running() as run:
        request = orders_pb2.ListOrdersRequest(parent="groups/-", customer="c", page_size=500)

        async def listed() -> Any:
            return await run.orders.ListOrders(request, timeout=SOON_S)

        for _ in range(2):
            await listed()
        got = await refusal(listed())
        assert (got.code, got.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert got.retry_after_ms > 0
        assert (await run.place()).consistency_token == "1:2"
