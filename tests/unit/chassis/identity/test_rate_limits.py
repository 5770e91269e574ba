"""Rate limits of callers: token buckets with a test clock, and the error above the limit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from chassis.admission.rate_limit import RateLimit, TokenBucket
from chassis.identity.authorizer import Caller
from chassis.identity.policy import FILE
from chassis.rpc.errors import ApiError
from devstack.certificates.ca import Issued
from tests.unit.chassis.identity.support import SOON_S, Answer, answer, call, calling, methods, serving


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_bucket_gives_its_tokens_and_then_the_time_until_the_next() -> None:
    clock = Clock()
    bucket = TokenBucket(RateLimit(calls_per_second=10, burst=3), clock)
    assert [bucket.take() for _ in range(3)] == [0, 0, 0]
    assert bucket.take() == pytest.approx(0.1)
    clock.now_s += 0.05
    assert bucket.take() == pytest.approx(0.05)
    clock.now_s += 0.06
    assert bucket.take() == 0
    assert bucket.take() > 0


def test_a_bucket_holds_at_most_its_burst_and_a_clock_that_goes_back_takes_nothing() -> None:
    clock = Clock()
    bucket = TokenBucket(RateLimit(calls_per_second=10, burst=2), clock)
    clock.now_s += 1_000
    assert [bucket.take() for _ in range(2)] == [0, 0]
    clock.now_s -= 50
    assert bucket.take() == pytest.approx(0.1)


def test_overdrawn_tokens_have_a_growing_wait() -> None:
    bucket = TokenBucket(RateLimit(calls_per_second=10, burst=1), Clock())
    assert [bucket.overdraw() for _ in range(3)] == pytest.approx([0, 0.1, 0.2])


async def test_messages_of_a_stream_are_slowed_down_and_other_calls_refused() -> None:
    caller = Caller("shop", TokenBucket(RateLimit(calls_per_second=1_000, burst=1)))
    async with asyncio.timeout(30):
        for _ in range(5):
            await caller.throttle()
    with pytest.raises(ApiError) as refused:
        for _ in range(100):
            caller.count()
    assert refused.value.retry_after_ms > 0


async def test_only_the_caller_above_its_rate_is_refused_with_a_delay(
    certificates: dict[str, Issued], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    text = FILE.read_text(encoding="utf-8")
    generous = "shop     = { calls_per_second = 10_000, burst = 20_000 }"
    assert generous in text
    policy.write_text(text.replace(generous, "shop = { calls_per_second = 0.01, burst = 2 }"), encoding="utf-8")
    get = next(one for one in methods("orders") if one.name == "GetOrder")
    async with serving("orders", certificates["orders"], policy) as port:
        async with calling(port, certificates["shop"]) as shop, calling(port, certificates["support"]) as support:
            let_in = Answer(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
            assert [await call(shop, get) for _ in range(2)] == [let_in, let_in]
            refused = await call(shop, get)
            assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
            assert 50_000 < refused.retry_after_ms <= 100_001
            assert await call(support, get) == let_in
        # A method of another kind counts too, and an invalid request.
        check = next(one for one in methods("orders") if one.full_name == "grpc.health.v1.Health.Check")
        async with calling(port, certificates["shop"]) as again:
            assert (await call(again, check)).reason == "RATE_LIMITED"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await again.unary_unary("/grpc.health.v1.Health/Check", None, None)(b"\xff\xff", timeout=SOON_S)
            assert answer(caught.value).reason == "RATE_LIMITED"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await again.unary_unary("/no.such.Service/Method", None, None)(b"", timeout=SOON_S)
            assert answer(caught.value).reason == "RATE_LIMITED"
        # Another connection does not avoid the limit.
        async with calling(port, certificates["shop"]) as again:
            assert (await call(again, get)).reason == "RATE_LIMITED"
