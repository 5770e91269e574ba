"""When calls are refused because calls wait too long, how many of them, and which never are."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from groupbuy.errors.v1 import errors_pb2
from groupbuy.orders.v1 import orders_pb2

from chassis.errors import ApiError, Prepared, trailing_metadata
from chassis.pressure import IN_A_ROW, MOST_WAIT_S, REFUSALS, Pressure
from chassis.replicas_calls import FORWARDED
from tests.unit.chassis.support import NAME, SOON_S, Running, a_request, refusal, running


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def waited(pressure: Pressure, clock: Clock, seconds: float) -> None:
    pressure.sent()
    clock.now_s += seconds
    pressure.heard()


def test_a_wait_that_lasts_refuses_and_one_that_comes_and_goes_does_not() -> None:
    clock = Clock()
    pressure = Pressure(clock)
    for _ in range(IN_A_ROW - 1):
        waited(pressure, clock, MOST_WAIT_S * 2)
    assert not pressure.refuses()
    waited(pressure, clock, MOST_WAIT_S * 2)
    assert pressure.refuses()
    waited(pressure, clock, MOST_WAIT_S / 2)
    assert not pressure.refuses()


def test_a_call_of_ours_that_grpc_dropped_counts_as_a_long_wait_and_a_quiet_time_as_none() -> None:
    clock = Clock()
    pressure = Pressure(clock)
    for _ in range(IN_A_ROW):
        pressure.sent()
        pressure.lost()
    assert pressure.refuses()
    pressure.calm()
    assert not pressure.refuses()


def test_a_flood_is_refused_only_so_often() -> None:
    clock = Clock()
    pressure = Pressure(clock)
    for _ in range(IN_A_ROW):
        waited(pressure, clock, MOST_WAIT_S * 2)
    refused = [pressure.refuses() for _ in range(REFUSALS.burst * 2)]
    assert sum(refused) == REFUSALS.burst
    assert refused[0]
    clock.now_s += 1
    assert sum(pressure.refuses() for _ in range(REFUSALS.burst * 2)) == int(REFUSALS.calls_per_second)


def test_a_refusal_made_once_says_what_one_made_for_the_call_would() -> None:
    error = ApiError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_OVERLOADED, "later", retry_after_ms=300
    )
    prepared = Prepared(error)
    for left_s in (None, 0.1, 0.49, 0.51, 10.0):
        assert prepared.trailing_metadata(left_s) == trailing_metadata(error, left_s)


class Pressed(Pressure):
    """Refuses whatever may be refused."""

    def refuses(self) -> bool:
        super().refuses()
        return True


def press(run: Running) -> None:
    run.server.guard.pressure.refuses = Pressed().refuses  # type: ignore[method-assign]


async def test_a_refused_call_has_a_reason_and_a_delay_and_is_not_looked_at() -> None:
    async with running() as run:
        press(run)
        call: Any = run.channel.unary_unary("/groupbuy.orders.v1.OrderService/PlaceOrder", None, None)
        got = await refusal(call(b"\xff\xff\xff no message at all", timeout=SOON_S))
        assert got.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert got.info.reason == "OVERLOADED"
        assert got.retry_after_ms > 0
        assert got.trailing["grpc-retry-pushback-ms"] == str(got.retry_after_ms)
        # Without a deadline it would be refused for that, were it looked at.
        got = await refusal(run.place(within_s=None))
        assert got.info.reason == "OVERLOADED"
        assert run.fake.seen == []
        assert len(run.server.guard.unary) == 0


async def test_health_watches_streams_and_what_another_replica_passed_on_are_never_refused_for_it() -> None:
    async with running() as run:
        press(run)
        await run.status_of()
        watch = run.orders.WatchOrder(orders_pb2.WatchOrderRequest(name=NAME))
        assert (await watch.read()).revision == 1
        placing = run.orders.PlaceOrders()
        await placing.write(orders_pb2.PlaceOrdersRequest(requests=[a_request()]))
        assert len((await placing.read()).results) == 1
        assert (await run.place(metadata=((FORWARDED, "1"),))).token == "1:2"
        watch.cancel()
        placing.cancel()


async def test_the_wait_of_calls_is_measured_while_there_are_calls() -> None:
    async with running() as run:
        pressure = run.server.guard.pressure
        heard = asyncio.Event()
        note = pressure.heard

        def noted() -> None:
            note()
            heard.set()

        pressure.heard = noted  # type: ignore[method-assign]
        async with asyncio.timeout(SOON_S):
            while not heard.is_set():
                await asyncio.gather(*(run.place() for _ in range(20)))


async def test_a_call_without_its_request_is_refused() -> None:
    async with running() as run:
        call: Any = run.channel.stream_unary("/groupbuy.orders.v1.OrderService/PlaceOrder", None, None)
        got = await refusal(call([], timeout=SOON_S))
        assert got.info.reason == "INVALID_FIELDS"
