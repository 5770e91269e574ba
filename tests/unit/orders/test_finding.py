"""An order is found by its id alone, in every partition and at every replica."""

from __future__ import annotations

import asyncio
from uuid import UUID

import grpc
import pytest
from groupbuy.orders.v1.orders_pb2 import WAIT_ACCEPTED, GetOrderRequest, ListOrdersRequest, Order

from chassis.rpc.caller import IDENTITY
from chassis.rpc.errors import ApiError
from eventlog.core.errors import NotReady
from eventlog.core.partitioner import partition_of
from services.orders.api import finding
from services.orders.domain.ids import OrderName, parse_order_name
from tests.scenarios import orders as h
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.scenarios.orders import reserves
from tests.unit.orders.test_place_order import reason
from tests.unit.orders.world import PARTITIONS, World, still_waits


@pytest.fixture
def world() -> World:
    made = World()
    made.decides = reserves
    return made


async def find(world: World, order: str, token: str = "") -> Order:
    return await world.orders.GetOrder(
        GetOrderRequest(name=f"groups/-/orders/{order}", consistency_token=token), call()
    )


async def placed(world: World, count: int) -> list[OrderName]:
    orders = [(await world.place(request_id=str(UUID(int=number + 1))))[0] for number in range(count)]
    return [parse_order_name(order.name) for order in orders]


async def test_an_order_is_found_in_each_partition(world: World) -> None:
    names = await placed(world, 40)
    assert {partition_of(name.group, PARTITIONS) for name in names} == set(range(PARTITIONS))
    for name in names:
        assert (await find(world, name.order)).name == str(name)


async def test_an_unknown_order_is_not_found(world: World) -> None:
    await placed(world, 1)
    with pytest.raises(ApiError) as caught:
        await find(world, GROUP)
    assert reason(caught) == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND")
    assert caught.value.metadata == {"order": f"groups/-/orders/{GROUP}"}


async def test_an_order_that_was_just_placed_is_found(world: World) -> None:
    world.folds = False
    order, token = await world.place(wait=WAIT_ACCEPTED)
    finding_ = [asyncio.create_task(find(world, parse_order_name(order.name).order, one)) for one in ("", token)]
    for task in finding_:
        await still_waits(task)
    world.fold(world.records[0][0])
    assert [(await task).name for task in finding_] == [order.name] * 2


async def test_an_order_whose_fact_is_gone_is_found_by_its_seat(world: World) -> None:
    world.decide(GROUP, h.opened(GROUP), h.reserved(GROUP))
    assert (await find(world, GROUP)).name == f"groups/{GROUP}/orders/{GROUP}"


async def test_all_partitions_are_needed(world: World) -> None:
    (name,) = await placed(world, 1)
    world.away = {(partition_of(name.group, PARTITIONS) + 1) % PARTITIONS}
    with pytest.raises(NotReady):
        await find(world, name.order)


async def test_an_identity_is_limited_and_others_are_not(world: World) -> None:
    (name,) = await placed(world, 1)
    IDENTITY.set("shop")
    with pytest.raises(ApiError) as caught:
        for _ in range(2 * finding.RATE.burst):
            await find(world, name.order)
    assert reason(caught) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    IDENTITY.set("support")
    assert (await find(world, name.order)).name == str(name)


async def test_a_customer_may_be_called_like_an_order(world: World) -> None:
    (name,) = await placed(world, 1)
    mine = [(await world.place(customer=name.order, request_id=str(UUID(int=number))))[0].name for number in range(3)]
    listed = []
    request = ListOrdersRequest(parent="groups/-", customer=name.order, page_size=1)
    while True:
        page = await world.orders.ListOrders(request, call())
        listed += [order.name for order in page.orders]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sorted(listed) == sorted(mine)
    assert (await find(world, name.order)).name == str(name)
