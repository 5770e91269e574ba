"""Goal: readers notice neither which replica of a service they call, nor that replicas join and leave.

Method: three replicas of groups and two of orders on a broker of their own. Idle groups are read continuously through
every replica while one replica is killed and one is added. Each response must equal the one before.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from groupbuy.groups.v1.groups_pb2 import GetGroupRequest, Group
from groupbuy.groups.v1.groups_pb2_grpc import GroupServiceStub
from groupbuy.orders.v1 import orders_pb2

from chassis.routing.peer_calls import FORWARDED
from devstack.product import PRODUCT, Plan
from devstack.stack import Stack
from groupbuy_client import AsyncClient, NotFound, Unavailable
from tests.waiting import wait_for_async

GROUPS = 24
PARTITIONS = 6
READERS = 6
_NAMES = ("orders", "groups")
PLAN = Plan(
    topics=PRODUCT.topics,
    first={},
    then={name: PRODUCT.then[name] for name in _NAMES},
    replica=PRODUCT.replica,
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(
        tmp_path_factory.mktemp("replicas"), partitions=PARTITIONS, plan=PLAN, replicas={"orders": 2, "groups": 3}
    )
    with made:
        yield made


def replicas(stack: Stack, service: str) -> list[str]:
    """Names of the running processes of a service."""
    return [name for name in stack.names if name.split("-")[0] == service and stack.pid(name)]


@asynccontextmanager
async def client(stack: Stack, *groups: str, orders: str = "") -> AsyncIterator[AsyncClient]:
    """A client of these replicas, with the service config and its retries."""
    targets = {
        "orders": ",".join(stack.endpoints[name] for name in ([orders] if orders else replicas(stack, "orders"))),
        "groups": ",".join(stack.endpoints[name] for name in groups or replicas(stack, "groups")),
    }
    async with AsyncClient(**{service: f"ipv4:{target}" for service, target in targets.items()}) as made:  # type: ignore[arg-type]
        yield made


async def a_campaign(shop: AsyncClient) -> str:
    """A campaign whose groups do not change during a test."""
    made = await shop.create_campaign(
        product="mug",
        currency="CNY",
        solo_price_minor=9_900,
        tiers=[(2, 8_900), (5, 7_900)],
        capacity=9,
        window=timedelta(hours=2),
        hold_window=timedelta(hours=1),
    )
    return made.name


def an_order(campaign: str, customer: str, group: str = "", **more: Any) -> dict[str, Any]:
    fields = {
        "campaign": campaign,
        "customer": customer,
        "currency": "CNY",
        "max_unit_price_minor": 9_900,
        "payment_method": "card_ok",
    }
    return {**fields, **({"group": group} if group else {}), **more}


async def owned_by(stack: Stack, name: str, groups: list[str]) -> set[str]:
    """Groups that a replica owns. A call that is marked as forwarded is not forwarded again."""
    found = set()
    async with grpc.aio.insecure_channel(stack.endpoints[name]) as channel:
        for group in groups:
            try:
                call = GroupServiceStub(channel).GetGroup
                await call(GetGroupRequest(name=group), timeout=5, metadata=((FORWARDED, "1"),))
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            else:
                found.add(group)
    return found


class Reading:
    """Reads unchanged groups in a loop, and records every difference."""

    def __init__(self, campaign: str, expected: dict[str, Group], listed: list[str]) -> None:
        self.campaign = campaign
        self.expected = expected
        self.listed = listed
        self.wrong: list[str] = []
        self.unavailable = 0
        self.read = 0

    async def go_on(self, shop: AsyncClient, seed: int) -> None:
        draw = random.Random(seed)
        while True:
            name = draw.choice(self.listed)
            try:
                if draw.random() < 0.2:
                    listed = [group.name async for group in shop.list_groups(self.campaign)]
                    self.note(listed == self.listed, f"the list has {len(listed)} groups")
                else:
                    group = await shop.get_group(name)
                    self.note(group == self.expected[name], f"{group} is not {self.expected[name]}")
            except Unavailable:
                self.unavailable += 1
            except Exception as error:  # noqa: BLE001 - any error fails the test
                self.wrong.append(repr(error))

    def note(self, right: bool, wrong: str) -> None:
        self.read += 1
        if not right:
            self.wrong.append(wrong)


async def test_no_response_is_wrong_or_empty_while_a_replica_is_killed_and_another_joins(stack: Stack) -> None:
    async with client(stack) as shop:
        campaign = await a_campaign(shop)
        placed = await asyncio.gather(*(shop.place_order(**an_order(campaign, f"c{n}")) for n in range(GROUPS)))
        groups = [one.order.group for one in placed]
        expected = {name: await shop.get_group(name) for name in groups}
        assert {len(group.members) for group in expected.values()} == {1}
        listed = [group.name async for group in shop.list_groups(campaign)]
        assert sorted(listed) == sorted(groups)
        names = replicas(stack, "groups")
        assert len(names) == 3
        await wait_for_async(lambda: _shared(stack, names, groups), seconds=30)
        owners = {name: await owned_by(stack, name, groups) for name in names}

        reading = Reading(campaign, expected, listed)
        tasks = [asyncio.create_task(reading.go_on(shop, seed)) for seed in range(READERS)]
        seen: dict[str, list[int]] = {name: [] for name in owners}
        watched = listed[0]
        watches = [asyncio.create_task(watch(stack, name, watched, seen[name])) for name in owners]
        try:
            await wait_for_async(lambda: _true(reading.read > 200 and all(seen.values())), seconds=20)
            victim = next(name for name, mine in owners.items() if name != "groups" and watched not in mine)
            stack.kill(victim, restart=False)
            left = [name for name in owners if name != victim]
            await wait_for_async(lambda: _all_owned(stack, left, groups), seconds=30)
            added = stack.add_replica("groups")
            await wait_for_async(lambda: _some_owned(stack, added, groups), seconds=30)
            await wait_for_async(lambda: _all_owned(stack, [*left, added], groups), seconds=30)
            async with client(stack, added) as newest:
                late = Reading(campaign, expected, listed)
                task = asyncio.create_task(late.go_on(newest, 99))
                await wait_for_async(lambda: _true(late.read > 50 or bool(late.wrong)), seconds=20)
                task.cancel()
        finally:
            for task in tasks:
                task.cancel()
        assert not reading.wrong, reading.wrong[:5]
        assert not late.wrong, late.wrong[:5]
        # A watch follows its group to the new owner: changes are seen through every remaining replica.
        await shop.place_order(**an_order(campaign, "friend", watched))
        version = (await shop.get_group(watched)).version
        assert version > expected[watched].version
        await wait_for_async(lambda: _true(all(seen[name][-1] == version for name in left)), seconds=20)
        assert all(versions == sorted(set(versions)) for versions in seen.values()), "nothing is repeated"
        for one in watches:
            one.cancel()


async def watch(stack: Stack, name: str, group: str, seen: list[int]) -> None:
    """Records the versions of a group that a replica streams."""
    async with client(stack, name) as one:
        async for found in one.watch_group(group):
            seen.append(found.version)


async def _true(condition: bool) -> bool:
    return condition


async def _some_owned(stack: Stack, name: str, groups: list[str]) -> bool:
    return bool(await owned_by(stack, name, groups))


async def _shared(stack: Stack, names: list[str], groups: list[str]) -> bool:
    """Whether every replica owns a group, and together they own all."""
    found = [await owned_by(stack, name, groups) for name in names]
    return all(found) and sum(map(len, found)) == len(groups)


async def _all_owned(stack: Stack, names: list[str], groups: list[str]) -> bool:
    found = [await owned_by(stack, name, groups) for name in names]
    return sum(map(len, found)) == len(groups)


async def test_orders_are_placed_read_listed_and_watched_through_any_replica(stack: Stack) -> None:
    customer = "ann"
    async with client(stack, orders="orders") as one, client(stack, orders="orders-1") as other:
        campaign = await a_campaign(one)
        placed = []
        for number in range(8):
            # With the consistency token, the other replica returns the order at once, decided or not.
            order = await one.place_order(**an_order(campaign, customer, wait=orders_pb2.WAIT_ACCEPTED))
            read = await other.get_order(order.order.name, consistency_token=order.consistency_token)
            assert read.customer == customer, number
            placed.append(order.order.name)
        decided = await other.place_order(**an_order(campaign, customer))
        assert decided.order.state == orders_pb2.ORDER_STATE_RESERVED
        placed.append(decided.order.name)
        token = decided.consistency_token
        for name in placed:
            # The partitions of one replica have the order, the answer of the other one is empty.
            alone = f"groups/-/orders/{name.rsplit('/', 1)[1]}"
            assert [(await through.get_order(alone)).name for through in (one, other)] == [name, name]
        with pytest.raises(NotFound):
            await one.get_order(f"groups/-/orders/{placed[0].split('/')[1]}")
        lists = [
            [order.name async for order in through.list_orders("groups/-", customer=customer, consistency_token=token)]
            for through in (one, other)
        ]
        assert lists[0] == lists[1]
        assert sorted(lists[0]) == sorted(placed)
        batch = await other.place_orders([an_order(campaign, f"b{number}") for number in range(20)])  # type: ignore[misc]
        assert all(result.order.state == orders_pb2.ORDER_STATE_RESERVED for result in batch), batch
        cancelled = await one.cancel_order(decided.order.name)
        assert cancelled.state == orders_pb2.ORDER_STATE_CANCELLED
        ends = [
            [order.state async for order in through.watch_order(decided.order.name)][-1] for through in (one, other)
        ]
        assert ends == [orders_pb2.ORDER_STATE_CANCELLED] * 2
