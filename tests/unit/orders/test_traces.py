"""The facts of orders carry the caller's trace, or one that begins with the order if it is sampled."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from groupbuy.orders.v1.orders_pb2 import BatchPlaceOrdersRequest, CancelOrderRequest

from chassis.rpc.errors import ApiError
from chassis.rpc.trace_context import TRACE, TraceStarter
from eventlog.records.envelope import header
from eventlog.records.traceparent import TraceContext, parse, span_id
from services.orders.api.orders import OrderServicer
from tests.scenarios.api_call import call
from tests.scenarios.orders import reserves
from tests.unit.orders.world import OTHER, TIME_MS, World, place_request

CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", False)


@pytest.fixture
def world() -> World:
    made = World()
    made.decides = reserves
    made.orders = OrderServicer(made, made.campaigns, made, now_ms=lambda: TIME_MS, trace_starter=TraceStarter(1.0))
    return made


@pytest.fixture
def caller() -> Iterator[TraceContext]:
    token = TRACE.set(CALLER)
    yield CALLER
    TRACE.reset(token)


def traces(world: World) -> list[TraceContext | None]:
    return [parse(header(record.headers, "traceparent") or "") for record in world.raw]


@pytest.mark.parametrize("together", [False, True])
async def test_an_order_begins_a_trace_with_its_own_id(world: World, together: bool) -> None:
    if together:
        answer = await world.orders.BatchPlaceOrders(BatchPlaceOrdersRequest(requests=[place_request()]), call())
        name = answer.results[0].name
    else:
        name = (await world.orders.PlaceOrder(place_request(), call())).order.name
    order = name.rpartition("/")[2]
    root = span_id("/groupbuy/orders", f"{order}:placed")
    assert traces(world) == [TraceContext(UUID(order).hex, root, True)]


@pytest.mark.parametrize("together", [False, True])
async def test_an_order_continues_the_callers_trace(world: World, caller: TraceContext, together: bool) -> None:
    if together:
        requests = [place_request(), place_request(request_id=OTHER)]
        await world.orders.BatchPlaceOrders(BatchPlaceOrdersRequest(requests=requests), call())
    else:
        await world.orders.PlaceOrder(place_request(), call())
    assert set(traces(world)) == {caller}


async def test_a_cancel_request_begins_in_the_trace_of_its_order(world: World) -> None:
    order, _ = await world.place()
    world.raw.clear()
    world.folds = False
    with pytest.raises(ApiError):
        await world.orders.CancelOrder(CancelOrderRequest(name=order.name, request_id=OTHER), call(0.2))
    ident = order.name.rpartition("/")[2]
    root = span_id("/groupbuy/orders", f"{ident}:cancel_requested:{OTHER}")
    assert traces(world) == [TraceContext(UUID(ident).hex, root, True)]
