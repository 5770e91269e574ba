"""Replicas that forward calls over mutual TLS: every replica returns the right response to an authorized caller.

The called replica checks its caller against the policy and forwards the call under its own identity. The owner accepts
forwarded calls from replicas only. A caller therefore gets no more rights by a second replica, nor by forging the mark.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from groupbuy.groups.v1.groups_pb2 import GetGroupRequest, Group
from groupbuy.groups.v1.groups_pb2_grpc import GroupServiceStub
from groupbuy.orders.v1 import orders_pb2

from chassis.identity.tls import expecting
from chassis.routing.peer_calls import FORWARDED, PARTITIONS
from devstack.product import PRODUCT
from devstack.stack import Stack
from groupbuy_client import AsyncClient, NotAllowed, mtls
from tests.integration.test_replicas import PLAN, a_campaign, an_order
from tests.waiting import wait_for_async

REPLICAS = ("groups", "groups-1")
GROUPS = 12


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    plan = replace(PLAN, acls=PRODUCT.acls)
    directory = tmp_path_factory.mktemp("replicas-secured")
    with Stack(directory, secured=True, partitions=6, plan=plan, replicas={"orders": 2, "groups": 2}) as made:
        yield made


def certificate(stack: Stack, identity: str) -> grpc.ChannelCredentials:
    assert stack.credentials is not None
    issued = stack.credentials.issued[identity]
    return mtls(issued.certificate, issued.key, issued.ca)


def caller(stack: Stack, identity: str, *, orders: str = "orders", groups: str = "groups") -> AsyncClient:
    """A client with an identity's certificate, of one replica of each service."""
    return AsyncClient(
        orders=stack.endpoints[orders], groups=stack.endpoints[groups], credentials=certificate(stack, identity)
    )


@asynccontextmanager
async def stub(stack: Stack, identity: str, replica: str) -> AsyncIterator[Any]:
    """Calls one replica with metadata set by the caller."""
    expected = expecting(stack.identity(replica))
    async with grpc.aio.secure_channel(
        stack.endpoints[replica], certificate(stack, identity), options=expected
    ) as channel:
        yield GroupServiceStub(channel)


async def owned_by(stack: Stack, replica: str, groups: list[str]) -> set[str]:
    """Groups that a replica owns, by calls as another replica makes them."""
    found = set()
    async with stub(stack, "groups", replica) as peer:
        for name in groups:
            try:
                await peer.GetGroup(GetGroupRequest(name=name), timeout=5, metadata=((FORWARDED, "1"),))
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            else:
                found.add(name)
    return found


@pytest.fixture
async def owners(stack: Stack) -> dict[str, set[str]]:
    """Groups by the replica that owns them. Each replica owns some."""
    async with caller(stack, "merchant") as merchant, caller(stack, "shop") as shop:
        campaign = await a_campaign(merchant)
        placed = await asyncio.gather(*(shop.place_order(**an_order(campaign, f"c{n}")) for n in range(GROUPS)))
    groups = [one.order.group for one in placed]
    found: dict[str, set[str]] = {}

    async def shared() -> bool:
        found.update({replica: await owned_by(stack, replica, groups) for replica in REPLICAS})
        return all(found.values()) and sum(map(len, found.values())) == len(groups)

    await wait_for_async(shared, seconds=30)
    return found


async def test_an_authorized_caller_gets_the_response_through_any_replica(
    stack: Stack, owners: dict[str, set[str]]
) -> None:
    groups = sorted(set.union(*owners.values()))
    seen: list[dict[str, Group]] = []
    listed: list[set[str]] = []
    for replica in REPLICAS:
        async with caller(stack, "shop", groups=replica) as shop:
            seen.append({name: await shop.get_group(name) for name in groups})
            listed.append({one.name async for one in shop.list_groups(seen[0][groups[0]].campaign)})
            for name in groups:
                async for first in shop.watch_group(name):
                    assert first == seen[0][name]
                    break
    assert seen[0] == seen[1]
    assert [len(group.members) for group in seen[0].values()] == [1] * GROUPS
    assert listed[0] == listed[1] == set(groups)
    # An authorized change is forwarded as well.
    async with caller(stack, "merchant", groups="groups") as merchant:
        theirs = min(owners["groups-1"])
        cancelled = await merchant.cancel_group(theirs)
        assert cancelled.version > seen[0][theirs].version


async def test_orders_are_placed_read_and_cancelled_through_any_replica(stack: Stack) -> None:
    async with (
        caller(stack, "merchant") as merchant,
        caller(stack, "shop") as one,
        caller(stack, "shop", orders="orders-1") as other,
    ):
        campaign = await a_campaign(merchant)
        # Each order opens a group, so that both replicas own some.
        placed = await asyncio.gather(*(one.place_order(**an_order(campaign, f"p{n}")) for n in range(GROUPS)))
        many = [an_order(campaign, f"b{n}") for n in range(GROUPS)]
        batch: Any = await other.place_orders(many)  # type: ignore[arg-type]
        orders = [result.order for result in (*placed, *batch)]
        assert {order.state for order in orders} == {orders_pb2.ORDER_STATE_RESERVED}
        for order in orders:
            assert await one.get_order(order.name) == await other.get_order(order.name)
        for through, customer in ((one, "b0"), (other, "p0")):
            listed = [order.customer async for order in through.list_orders("groups/-", customer=customer)]
            assert listed == [customer]
        for order in orders[::3]:
            assert (await other.cancel_order(order.name)).state == orders_pb2.ORDER_STATE_CANCELLED


async def test_an_unauthorized_caller_is_refused_by_every_replica(stack: Stack, owners: dict[str, set[str]]) -> None:
    for replica in REPLICAS:
        for owner, groups in owners.items():
            async with caller(stack, "finance", groups=replica) as finance:
                with pytest.raises(NotAllowed) as caught:
                    await finance.get_group(min(groups))
                assert caught.value.reason == "METHOD_NOT_ALLOWED", (replica, owner)
            async with caller(stack, "shop", groups=replica) as shop:
                with pytest.raises(NotAllowed):
                    await shop.cancel_group(min(groups))


@pytest.mark.parametrize("identity", ["shop", "operator", "finance", "orders"])
async def test_no_other_caller_can_pose_as_a_replica(stack: Stack, owners: dict[str, set[str]], identity: str) -> None:
    for replica in REPLICAS:
        async with stub(stack, identity, replica) as pretender:
            for mark in ((FORWARDED, "1"), (PARTITIONS, "0")):
                for name in (min(groups) for groups in owners.values()):
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await pretender.GetGroup(GetGroupRequest(name=name), timeout=5, metadata=(mark,))
                    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_replica_forwards_and_makes_no_calls_of_its_own(stack: Stack, owners: dict[str, set[str]]) -> None:
    async with caller(stack, "groups") as replica:
        with pytest.raises(NotAllowed):
            await a_campaign(replica)
        with pytest.raises(NotAllowed):
            await replica.get_group(min(owners["groups"]))
