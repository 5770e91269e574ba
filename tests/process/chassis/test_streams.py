"""Streams pass the checks of unary calls except the deadline, are limited, and end when the process stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from groupbuy.errors.v1 import errors_pb2
from groupbuy.orders.v1 import orders_pb2
from grpc_health.v1 import health_pb2

from chassis.rpc.errors import ApiError
from tests.unit.chassis.fake_orders import ORDERS
from tests.unit.chassis.support import NAME, SOON_S, a_request, eventually, refusal, running

WATCH = orders_pb2.WatchOrderRequest(name=NAME)


async def test_a_watch_needs_no_deadline_and_receives_all_messages() -> None:
    async with running() as run:
        run.fake.release.set()
        revisions = [order.revision async for order in run.orders.WatchOrder(WATCH)]
        assert revisions == [1, 2]


async def test_an_invalid_watch_is_refused_with_its_field() -> None:
    async with running() as run:
        got = await refusal(run.orders.WatchOrder(orders_pb2.WatchOrderRequest(name="orders/1")).read())
        assert got.info.reason == "INVALID_FIELDS"
        assert set(got.fields) == {"name"}


async def test_an_error_during_a_watch_arrives_after_the_messages_before_it() -> None:
    async with running() as run:

        async def fail() -> None:
            raise ApiError(grpc.StatusCode.NOT_FOUND, errors_pb2.ERROR_REASON_ORDER_NOT_FOUND, "no such order")

        run.fake.place = fail
        watch = run.orders.WatchOrder(WATCH)
        assert (await watch.read()).revision == 1
        got = await refusal(watch.read())
        assert got.info.reason == "ORDER_NOT_FOUND"


async def test_a_watch_is_closed_when_its_caller_cancels() -> None:
    async with running() as run:
        watch = run.orders.WatchOrder(WATCH)
        assert (await watch.read()).revision == 1
        await asyncio.wait_for(run.fake.inside.wait(), SOON_S)
        watch.cancel()
        await asyncio.wait_for(run.fake.ended.wait(), SOON_S)


async def test_streams_are_limited() -> None:
    async with running(max_streams=1) as run:
        first = run.orders.WatchOrder(WATCH)
        await first.read()
        got = await refusal(run.orders.WatchOrder(WATCH).read())
        assert got.info.reason == "OVERLOADED"
        first.cancel()


async def test_each_request_of_a_client_stream_is_checked() -> None:
    taken: list[str] = []

    async def place_all(requests: AsyncIterator[Any], context: Any) -> orders_pb2.PlaceOrderResponse:
        async for request in requests:
            taken.append(request.customer)
        return orders_pb2.PlaceOrderResponse(consistency_token=f"{len(taken)}")

    def add(servicer: Any, server: Any) -> None:
        handler = grpc.stream_unary_rpc_method_handler(
            place_all,
            request_deserializer=orders_pb2.PlaceOrderRequest.FromString,
            response_serializer=orders_pb2.PlaceOrderResponse.SerializeToString,
        )
        server.add_registered_method_handlers(ORDERS, {"PlaceAll": handler})

    async with running(add=add) as run:
        call: Any = run.channel.stream_unary(
            f"/{ORDERS}/PlaceAll",
            orders_pb2.PlaceOrderRequest.SerializeToString,
            orders_pb2.PlaceOrderResponse.FromString,
        )
        answer = await call([a_request(customer="a"), a_request(customer="b")], timeout=SOON_S)
        assert answer.consistency_token == "2"
        got = await refusal(call([a_request(customer="c"), a_request(customer="")], timeout=SOON_S))
        assert set(got.fields) == {"customer"}
        assert taken == ["a", "b", "c"]


async def test_a_bidirectional_stream_answers_each_request_and_refuses_an_invalid_one() -> None:
    async with running() as run:
        call = run.orders.PlaceOrders()
        # The servicer checks the orders in a message one by one; the pipeline checks the message.
        await call.write(orders_pb2.PlaceOrdersRequest(requests=[a_request(), orders_pb2.PlaceOrderRequest()]))
        assert len((await call.read()).results) == 2
        await call.write(orders_pb2.PlaceOrdersRequest())
        got = await refusal(call.read())
        assert set(got.fields) == {"requests"}


async def test_a_stream_message_that_is_too_large_is_refused_with_a_reason() -> None:
    async with running() as run:
        call = run.orders.PlaceOrders()
        await call.write(orders_pb2.PlaceOrdersRequest(requests=[a_request(payment_method="x" * 300_000)]))
        got = await refusal(call.read())
        assert got.info.reason == "MESSAGE_TOO_LARGE"


async def test_a_drain_ends_watches_at_once_and_waits_for_unary_calls() -> None:
    async with running() as run:
        watch = run.orders.WatchOrder(WATCH)
        await watch.read()
        await asyncio.wait_for(run.fake.inside.wait(), SOON_S)
        run.fake.inside.clear()
        run.fake.place = run.fake.hang
        placing = asyncio.ensure_future(run.place())
        await asyncio.wait_for(run.fake.inside.wait(), SOON_S)
        draining = asyncio.ensure_future(run.server.drain(30))
        got = await refusal(watch.read())
        assert got.code is grpc.StatusCode.UNAVAILABLE
        assert got.info.reason == "NOT_READY"
        assert not draining.done()
        run.fake.release.set()
        assert (await placing).consistency_token == "1:2"
        await asyncio.wait_for(draining, SOON_S)


async def test_a_drain_ends_a_unary_call_after_its_timeout() -> None:
    async with running() as run:
        run.fake.place = run.fake.hang
        placing = asyncio.ensure_future(refusal(run.place(within_s=60)))
        await asyncio.wait_for(run.fake.inside.wait(), SOON_S)
        await asyncio.wait_for(run.server.drain(0.1), SOON_S)
        got = await placing
        assert got.code is grpc.StatusCode.UNAVAILABLE
        assert got.info.reason == "NOT_READY"


async def test_a_watcher_that_does_not_read_does_not_delay_a_drain() -> None:
    stuck_for = 0

    async def flood(_request: Any, _context: Any) -> AsyncIterator[orders_pb2.Order]:
        nonlocal stuck_for
        while True:
            stuck_for = 0
            yield orders_pb2.Order(name="n" * 100_000)

    def is_stuck() -> bool:
        nonlocal stuck_for
        stuck_for += 1
        return stuck_for > 20

    def add(_servicer: Any, server: Any) -> None:
        handler = grpc.unary_stream_rpc_method_handler(
            flood,
            request_deserializer=orders_pb2.WatchOrderRequest.FromString,
            response_serializer=orders_pb2.Order.SerializeToString,
        )
        server.add_registered_method_handlers(ORDERS, {"WatchOrder": handler})

    async with running(add=add) as run:
        watch = run.orders.WatchOrder(WATCH)
        await watch.read()
        # The connection is full once the flood has made no progress for many checks.
        await eventually(is_stuck)
        await asyncio.wait_for(run.server.drain(30), SOON_S)


async def test_health_watchers_receive_not_serving_before_their_stream_ends() -> None:
    async with running() as run:
        await run.server.set_serving(True)
        watch = run.health.Watch(health_pb2.HealthCheckRequest(service=ORDERS))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        draining = asyncio.ensure_future(run.server.drain(30))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(draining, SOON_S)
