"""The reuse of a request id for a second order is refused where it can be known. Method: an orders servicer with an
in-memory broker, and requests of one customer for two groups."""

from __future__ import annotations

import asyncio

import pytest
from groupbuy.errors.v1 import errors_pb2
from groupbuy.orders.v1.orders_pb2 import (
    WAIT_ACCEPTED,
    BatchPlaceOrdersRequest,
    ListOrdersRequest,
    ListOrdersResponse,
    PlaceOrderRequest,
)

from chassis.rpc.errors import ApiError
from eventlog.core.errors import NotReady
from services.orders.api.orders import OrderServicer
from services.orders.api.placing.parsed_order import parse_order
from services.orders.api.placing.recent_requests import RecentRequests, check_placed
from services.orders.domain.ids import group_id, order_id
from tests.scenarios.api_call import call
from tests.unit.orders.world import OTHER, REQUEST, TIME_MS, World, place_request

JOINED = "0f5fd1f1-2f7a-5b41-9a45-6f3a4c6a6d10"


def request_for(group: str = "", customer: str = "ann", request_id: str = REQUEST) -> PlaceOrderRequest:
    return place_request(customer=customer, request_id=request_id, group=f"groups/{group}" if group else "")


def test_the_same_id_in_another_group_names_another_order() -> None:
    opened = group_id("ann", REQUEST)
    assert order_id(opened, "ann", REQUEST) != order_id(JOINED, "ann", REQUEST)


def test_a_request_id_is_one_order_of_a_customer_while_it_is_remembered() -> None:
    recent = RecentRequests(most=2)
    opens, joins = parse_order(request_for()), parse_order(request_for(JOINED))
    recent.remember(opens)
    recent.check(opens)
    with pytest.raises(ApiError) as refused:
        recent.check(joins)
    assert refused.value.reason == errors_pb2.ERROR_REASON_REQUEST_ID_REUSED
    assert refused.value.metadata["order"] == str(opens.name)
    # Another customer can have the same id, and the same customer another id.
    recent.check(parse_order(request_for(JOINED, customer="ben")))
    recent.check(parse_order(request_for(JOINED, request_id=OTHER)))
    for customer in ("ben", "carl"):
        recent.remember(parse_order(request_for(customer=customer)))
    recent.check(joins)


async def test_place_order_refuses_the_id_of_the_customers_order_in_another_group_and_writes_nothing() -> None:
    world = World()
    first = await world.orders.PlaceOrder(accepted(request_for()), call())
    with pytest.raises(ApiError) as refused:
        await world.orders.PlaceOrder(accepted(request_for(JOINED)), call())
    assert refused.value.reason == errors_pb2.ERROR_REASON_REQUEST_ID_REUSED
    assert [field for field, _ in refused.value.fields] == ["request_id"]
    assert len(world.records) == 1
    again = await world.orders.PlaceOrder(accepted(request_for()), call())
    assert again.order.name == first.order.name


async def test_a_batch_with_one_id_for_two_groups_places_the_first_order_alone() -> None:
    world = World()
    requests = [accepted(request_for()), accepted(request_for(JOINED)), accepted(request_for())]
    answer = await world.orders.BatchPlaceOrders(BatchPlaceOrdersRequest(requests=requests), call())
    codes = [result.status.code for result in answer.results]
    assert (codes[0], codes[2]) == (0, 0)
    assert codes[1] != 0
    assert "request_id" in answer.results[1].status.message
    assert len(world.records) == 1


async def test_a_restarted_process_refuses_the_id_by_the_customers_orders() -> None:
    world = World()
    first = await world.orders.PlaceOrder(accepted(request_for()), call())
    await turn()
    # A new servicer over the same read model has seen no request.
    restarted = OrderServicer(world, world.campaigns, world, now_ms=lambda: TIME_MS)
    with pytest.raises(ApiError) as refused:
        await restarted.PlaceOrder(request_for(JOINED), call())
    assert refused.value.reason == errors_pb2.ERROR_REASON_REQUEST_ID_REUSED
    assert refused.value.metadata["order"] == first.order.name
    assert len(world.records) == 1
    # Neither another customer, nor another id, nor the retry of the order itself is a reuse.
    parsed = [
        parse_order(one)
        for one in (request_for(JOINED, customer="ben"), request_for(JOINED, request_id=OTHER), request_for())
    ]
    for one in parsed:
        await check_placed(one, lambda wanted: restarted._listing.page(wanted, call()))


async def test_replicas_that_are_away_stop_no_order() -> None:
    async def away(wanted: ListOrdersRequest) -> ListOrdersResponse:
        raise NotReady("moving")

    async def silent(wanted: ListOrdersRequest) -> ListOrdersResponse:
        await asyncio.Event().wait()
        raise AssertionError

    await check_placed(parse_order(request_for(JOINED)), away)
    await check_placed(parse_order(request_for(JOINED)), silent)


async def turn() -> None:
    """Lets the projection fold what was published."""
    for _ in range(3):
        await asyncio.sleep(0)


def accepted(made: PlaceOrderRequest) -> PlaceOrderRequest:
    made.wait = WAIT_ACCEPTED
    return made
