"""Goal: orders of a batch go in batches to the owners of their groups; a customer's list is complete at every replica.

Method: two worlds, each with half of the partitions. Calls between them are forwarded without gRPC.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from groupbuy.groups.v1.decisions_pb2 import RELEASE_REASON_CANCELLED, GroupEvent
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_STATE_CANCELLED,
    ORDER_STATE_PLACED,
    ORDER_STATE_RESERVED,
    WAIT_ACCEPTED,
    BatchPlaceOrdersRequest,
    CancelOrderRequest,
    GetOrderRequest,
    ListOrdersRequest,
    PlaceOrderRequest,
    PlaceOrderResult,
)

from chassis.routing.partition_router import LocalRouter
from eventlog.core.errors import NotReady
from eventlog.core.partitioner import partition_of
from services.orders.api.orders import OrderServicer
from services.orders.api.placing.parsed_order import parse_order
from services.orders.domain.ids import group_of
from tests.scenarios.api_call import call
from tests.scenarios.group_events import seat_released
from tests.scenarios.orders import reserves
from tests.unit.orders.world import PARTITIONS, TIME_MS, World, place_request

REQUEST = "5b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11"


class Carrier(LocalRouter):
    """Forwards calls that are not for this world to the other one."""

    def __init__(self) -> None:
        self.other: World | None = None
        self.carried: list[tuple[str, Any]] = []

    def owner(self, key: str) -> str:
        assert self.other is not None
        return "" if partition_of(key, PARTITIONS) in self.other.away else "other:1"

    async def call_owner(
        self, method: str, where: str | int, request: Any, context: Any, here: Callable[[], Awaitable[Any]]
    ) -> Any:
        try:
            return await here()
        except NotReady:
            if self.other is None:
                raise
            self.carried.append((method, request))
            return await getattr(self.other.orders, method)(request, call())

    async def scatter_gather(self, method: str, request: Any, context: Any, here: Any) -> list[Any]:
        if self.other is None:
            return [await here(None)]
        theirs: Any = self.other.orders._listing
        mine = [one for one in range(PARTITIONS) if one in self.other.away]
        rest = [one for one in range(PARTITIONS) if one not in mine]
        parts = [await here(mine)]
        found = await theirs._of_customer(request, self.other.deadline(), rest)
        answer = type(parts[0])(orders=found.items, next_page_token=found.next_token)
        return [*parts, answer]


@pytest.fixture
def worlds() -> tuple[World, World, Carrier]:
    made = World(), World()
    carrier = Carrier()
    for world, away, replicas in ((made[0], {1, 3}, carrier), (made[1], {0, 2}, Carrier())):
        world.away = away
        world.decides = reserves
        world.orders = OrderServicer(world, world.campaigns, world, now_ms=lambda: TIME_MS, replicas=replicas)
    carrier.other = made[1]
    return (*made, carrier)


def order_request(number: int, **more: object) -> PlaceOrderRequest:
    return place_request(**{"request_id": str(UUID(int=number + 1)), **more})


def opens_and_cancels(fact: OrderFact) -> Sequence[GroupEvent]:
    if fact.HasField("placed"):
        return reserves(fact)
    return [seat_released(fact.order, RELEASE_REASON_CANCELLED)]


async def batch(world: World, *requests: PlaceOrderRequest) -> list[PlaceOrderResult]:
    response = await world.orders.BatchPlaceOrders(BatchPlaceOrdersRequest(requests=requests), call())
    return list(response.results)


async def test_orders_of_a_batch_go_to_their_owners_and_are_answered_in_order(
    worlds: tuple[World, World, Carrier],
) -> None:
    here, there, carrier = worlds
    requests = [order_request(number, wait=WAIT_ACCEPTED) for number in range(40)]
    results = await batch(here, *requests)
    assert [result.index for result in results] == list(range(40))
    assert {result.order.state for result in results} <= {ORDER_STATE_PLACED, ORDER_STATE_RESERVED}
    stated = [fact.placed.request_id for fact, _ in here.records + there.records]
    assert sorted(stated) == sorted(request.request_id for request in requests)
    for world in (here, there):
        assert world.records
        assert not {partition_of(fact.group, PARTITIONS) for fact, _ in world.records} & world.away
    ((method, carried),) = carrier.carried
    assert method == "BatchPlaceOrders"
    assert len(carried.requests) == len(there.records)


async def test_orders_that_an_owner_can_no_longer_place_are_retried_one_by_one(
    worlds: tuple[World, World, Carrier],
) -> None:
    here, there, carrier = worlds
    requests = [order_request(number) for number in range(20)]
    there.away = {0, 1, 2}
    found = await batch(here, *requests)
    lost = [one for one in found if one.HasField("status")]
    singly = [request for method, request in carrier.carried if method == "PlaceOrder"]
    assert len(lost) == len(singly) > 0
    assert {one.order.state for one in found if one.HasField("order")} == {ORDER_STATE_RESERVED}
    there.away = {0, 2}
    again = await batch(here, *requests)
    assert {one.order.state for one in again} == {ORDER_STATE_RESERVED}


async def test_an_order_is_placed_read_and_cancelled_at_its_owner(
    worlds: tuple[World, World, Carrier],
) -> None:
    here, there, carrier = worlds
    there.decides = opens_and_cancels
    number = next(one for one in range(99) if partition_of(_group(one), PARTITIONS) in here.away)
    placed = await here.orders.PlaceOrder(order_request(number), call())
    assert placed.order.state == ORDER_STATE_RESERVED
    assert not here.records
    read = await here.orders.GetOrder(
        GetOrderRequest(name=placed.order.name, consistency_token=placed.consistency_token), call()
    )
    assert read == placed.order
    cancel = CancelOrderRequest(name=placed.order.name, request_id=REQUEST)
    assert (await here.orders.CancelOrder(cancel, call())).state == ORDER_STATE_CANCELLED
    assert [method for method, _ in carrier.carried] == ["PlaceOrder", "GetOrder", "CancelOrder"]


@pytest.mark.parametrize("size", [1, 3, 50])
async def test_a_customers_list_is_merged_from_all_owners(worlds: tuple[World, World, Carrier], size: int) -> None:
    here, there, _ = worlds
    for number in range(12):
        here.now_ms = there.now_ms = TIME_MS + number // 2
        await here.orders.PlaceOrder(order_request(number), call())
    found: list[Any] = []
    token = ""
    while True:
        request = ListOrdersRequest(parent="groups/-", customer="ann", page_size=size, page_token=token)
        page = await here.orders.ListOrders(request, call())
        found += page.orders
        token = page.next_page_token
        if not token:
            break
    assert len({order.name for order in found}) == len(found) == 12
    times = [order.create_time.ToMilliseconds() for order in found]
    assert times == sorted(times, reverse=True)
    assert {partition_of(group_of(order.group), PARTITIONS) & 1 for order in found} == {0, 1}


def _group(number: int) -> str:
    return parse_order(order_request(number)).name.group
