"""The reuse of a request id for a second order is refused where it can be known. Method: an orders servicer with an
in-memory broker, and requests of one customer for two groups."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from groupbuy.errors.v1 import errors_pb2
from groupbuy.orders.v1.orders_pb2 import (
    WAIT_ACCEPTED,
    BatchPlaceOrdersRequest,
    PlaceOrderRequest,
)

from chassis.routing.partition_router import LocalRouter
from chassis.rpc.errors import ApiError
from eventlog.core.errors import NotReady
from services.orders.api.orders import OrderServicer
from services.orders.api.placing.parsed_order import parse_order
from services.orders.api.placing.recent_requests import FRESH_MS, RecentRequests, check_placed, is_fresh
from services.orders.api.reading import Reader
from services.orders.domain.ids import group_id, order_id
from tests.scenarios.api_call import call
from tests.scenarios.orders import reserves
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
        await check_placed(one, Reader(world, world), LocalRouter(), call())


class Away(LocalRouter):
    """Replicas that raise NotReady, or don't answer."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self.asked = 0

    async def scatter_gather(self, method: str, request: Any, context: Any, here: Any) -> list[Any]:
        self.asked += 1
        if self._silent:
            await asyncio.Event().wait()
        raise NotReady("moving")


@pytest.mark.parametrize("silent", [False, True])
async def test_replicas_that_are_away_stop_no_order(silent: bool) -> None:
    world, replicas = World(), Away(silent=silent)
    world.away = {1}
    await check_placed(parse_order(request_for(JOINED)), Reader(world, world), replicas, call())
    assert replicas.asked == 1


def version_7(made_ms: int) -> str:
    """A UUIDv7 of a time, in milliseconds since the epoch."""
    return str(UUID(int=made_ms << 80 | 7 << 76 | 2 << 62 | 12345))


def test_only_a_new_uuid_of_version_7_is_fresh() -> None:
    assert is_fresh(version_7(TIME_MS), TIME_MS)
    for other in (version_7(TIME_MS - FRESH_MS - 1), version_7(TIME_MS + FRESH_MS + 1), REQUEST, str(uuid4()), ""):
        assert not is_fresh(other, TIME_MS)


@pytest.mark.parametrize(("age_ms", "is_read"), [(0, False), (FRESH_MS + 1, True)])
async def test_a_fresh_id_reads_no_list_of_orders(age_ms: int, is_read: bool) -> None:
    world = World()
    read: list[str] = []
    listed = world.of_customer

    def of_customer(customer: str, *args: Any) -> Any:
        read.append(customer)
        return listed(customer, *args)

    world.of_customer = of_customer  # type: ignore[method-assign]
    world.decides = reserves
    await world.orders.PlaceOrder(request_for(request_id=version_7(TIME_MS - age_ms)), call())
    assert bool(read) is is_read


async def test_a_fresh_id_of_an_order_that_this_process_placed_is_refused() -> None:
    world = World()
    fresh = version_7(TIME_MS)
    await world.orders.PlaceOrder(accepted(request_for(request_id=fresh)), call())
    with pytest.raises(ApiError) as refused:
        await world.orders.PlaceOrder(request_for(JOINED, request_id=fresh), call())
    assert refused.value.reason == errors_pb2.ERROR_REASON_REQUEST_ID_REUSED


async def turn() -> None:
    """Lets the projection fold what was published."""
    for _ in range(3):
        await asyncio.sleep(0)


def accepted(made: PlaceOrderRequest) -> PlaceOrderRequest:
    made.wait = WAIT_ACCEPTED
    return made
