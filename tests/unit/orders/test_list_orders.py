"""ListOrders: stable pages of the orders of a group or a customer while data changes."""

from __future__ import annotations

from uuid import UUID

import grpc
import pytest
from groupbuy.orders.v1.orders_pb2 import WAIT_ACCEPTED, ListOrdersRequest, ListOrdersResponse

from chassis.rpc.errors import ApiError
from eventlog.core.errors import NotReady
from eventlog.core.partitioner import partition_of
from services.orders.api.reading import key_of_each_partition
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.scenarios.orders import opened, placed, reserved, reserves
from tests.unit.orders.world import TIME_MS, World


@pytest.fixture
def world() -> World:
    made = World()
    made.decides = reserves
    return made


async def fill(world: World, count: int, group: str = "", first: int = 0) -> list[str]:
    """Places orders of customers c0, c1, c2, … c0 …; returns their names."""
    names = []
    for number in range(first, first + count):
        world.now_ms = TIME_MS + number
        order, _ = await world.place(
            customer=f"c{number % 3}", request_id=str(UUID(int=number + 1)), group=group, wait=WAIT_ACCEPTED
        )
        names.append(order.name)
    return names


async def page(world: World, parent: str, **more: object) -> ListOrdersResponse:
    request = ListOrdersRequest(parent=parent, **more)  # type: ignore[arg-type] # fields by name
    return await world.orders.ListOrders(request, call())


async def test_pages_of_a_group_list_each_order_once_while_orders_change(world: World) -> None:
    leader, _ = await world.place()
    names = await fill(world, 9, leader.group)
    seen: list[str] = []
    token = ""
    while True:
        got = await page(world, leader.group, page_size=3, page_token=token)
        seen += [order.name for order in got.orders]
        await fill(world, 1, leader.group, first=100 + len(seen))
        token = got.next_page_token
        if not token:
            break
    assert len(seen) == len(set(seen))
    assert {leader.name, *names} <= set(seen)


async def test_the_list_of_a_group_can_be_filtered_by_customer(world: World) -> None:
    leader, _ = await world.place()
    names = await fill(world, 6, leader.group)
    got = await page(world, leader.group, customer="c1")
    assert sorted(order.name for order in got.orders) == sorted(names[1::3])


async def test_a_customers_orders_are_listed_newest_first_from_all_groups(world: World) -> None:
    names = await fill(world, 12)
    mine = list(reversed(names[0::3]))
    first = await page(world, "groups/-", customer="c0", page_size=3)
    assert [order.name for order in first.orders] == mine[:3]
    # Orders newer than the first page do not change the second.
    await fill(world, 3, first=30)
    second = await page(world, "groups/-", customer="c0", page_size=3, page_token=first.next_page_token)
    assert [order.name for order in second.orders] == mine[3:]
    assert not second.next_page_token
    assert not (await page(world, "groups/-", customer="nobody")).orders


async def test_a_list_contains_this_process_writes_and_with_a_token_other_writes(world: World) -> None:
    leader, token = await world.place()
    world.folds = False
    joined = await fill(world, 1, leader.group)
    with pytest.raises(ApiError) as caught:
        await world.orders.ListOrders(ListOrdersRequest(parent=leader.group), call(0.1))
    assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.DEADLINE_EXCEEDED, "ANSWER_PENDING")
    world.fold(world.records[-1][0])
    assert joined[0] in [order.name for order in (await page(world, leader.group)).orders]
    assert (await page(world, "groups/-", customer="ann", consistency_token=token)).orders
    assert (await page(world, leader.group, consistency_token=token)).orders


@pytest.mark.parametrize(
    ("parent", "more", "field"),
    [
        ("", {"page_token": "nonsense"}, "page_token"),
        ("", {"page_token": "e30"}, "page_token"),
        ("", {"consistency_token": "nonsense"}, "consistency_token"),
        ("groups/" + "-" * 36, {}, "parent"),
    ],
)
async def test_an_invalid_token_or_group_is_refused(
    world: World, parent: str, more: dict[str, object], field: str
) -> None:
    leader, _ = await world.place()
    with pytest.raises(ApiError) as caught:
        await page(world, parent or leader.group, **more)
    assert [name for name, _ in caught.value.fields] == [field]


async def test_a_page_token_is_valid_for_its_list_only(world: World) -> None:
    leader, _ = await world.place()
    await fill(world, 6, leader.group)
    first = await page(world, leader.group, page_size=2)
    for parent, customer in ((leader.group, "c1"), ("groups/-", "c1")):
        with pytest.raises(ApiError) as caught:
            await page(world, parent, customer=customer, page_token=first.next_page_token)
        assert [name for name, _ in caught.value.fields] == ["page_token"]
    assert (await page(world, leader.group, page_size=500, page_token=first.next_page_token)).orders


async def test_an_unknown_group_is_not_found_and_an_unread_partition_is_not_ready(world: World) -> None:
    with pytest.raises(ApiError) as caught:
        await page(world, f"groups/{UUID(int=9)}")
    assert caught.value.reason_name == "GROUP_NOT_FOUND"
    world.ready = False
    for parent in (f"groups/{UUID(int=9)}", "groups/-"):
        with pytest.raises(NotReady):
            await page(world, parent, customer="ann")


async def test_a_customers_list_needs_all_partitions(world: World) -> None:
    await world.place()
    world.away.add(2)
    with pytest.raises(NotReady):
        await page(world, "groups/-", customer="ann")


def test_there_is_a_key_for_each_partition() -> None:
    for partitions in (1, 4, 64):
        keys = key_of_each_partition(partitions)
        assert [partition_of(key, partitions) for key in keys] == list(range(partitions))
    with pytest.raises(NotReady):
        key_of_each_partition(0)


async def test_a_customer_with_many_orders_pages_through_all_of_them(world: World) -> None:
    placed = set()
    for number in range(1_100):
        world.now_ms = TIME_MS + number // 3
        order, _ = await world.place(request_id=str(UUID(int=number + 1)), wait=WAIT_ACCEPTED)
        placed.add(order.name)
    found: list[str] = []
    token = ""
    while True:
        answer = await page(world, "groups/-", customer="ann", page_size=250, page_token=token)
        found += [order.name for order in answer.orders]
        times = [order.create_time.ToMilliseconds() for order in answer.orders]
        assert times == sorted(times, reverse=True)
        token = answer.next_page_token
        if not token:
            break
    assert len(found) == len(placed)
    assert set(found) == placed


async def test_an_order_without_its_fact_is_listed_by_its_seat(world: World) -> None:
    seat = reserved("o1")
    world.decide(GROUP, opened("o1"), seat)
    answer = await page(world, "groups/-", customer="customer-o1")
    assert [order.name for order in answer.orders] == [f"groups/{GROUP}/orders/o1"]


async def test_an_order_whose_fact_is_read_late_is_listed_once_by_the_time_of_the_fact(world: World) -> None:
    world.decide(GROUP, opened("o1"), reserved("o1"))
    world.now_ms = TIME_MS - 5_000
    world.decides = lambda fact: ()
    fact = placed("o1", opens=True).fact
    fact.customer = "customer-o1"
    world.fold(fact)
    answer = await page(world, "groups/-", customer="customer-o1")
    assert [order.create_time.ToMilliseconds() for order in answer.orders] == [TIME_MS - 5_000]
