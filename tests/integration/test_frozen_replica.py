"""A replica that was frozen for longer than its session returns no stale data, from its first response on.

Calls that arrived while it was frozen are in its socket when it wakes, before it can learn that its partitions have
another owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import pytest
from groupbuy.groups.v1.groups_pb2 import GetGroupRequest
from groupbuy.groups.v1.groups_pb2_grpc import GroupServiceStub

from chassis.routing.peer_calls import FORWARDED
from devstack.stack import Stack
from tests.integration.test_replicas import PLAN, a_campaign, an_order, client, owned_by
from tests.waiting import moment, wait_for_async

FROZEN, OTHER = "groups-1", "groups"
GROUPS = 12
#: Calls that are queued when it wakes.
WAITING = 20
#: Calls after that, while it catches up.
AFTERWARDS = 100
SOON_S = 60.0


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("frozen"), partitions=6, plan=PLAN, replicas={"groups": 2}) as made:
        yield made


async def _is(stack: Stack, replica: str, groups: list[str], *, all_of_them: bool) -> bool:
    """Whether it owns some of these groups, but not all; or all."""
    found = await owned_by(stack, replica, groups)
    return len(found) == len(groups) if all_of_them else 0 < len(found) < len(groups)


async def test_a_replica_that_wakes_after_its_session_returns_no_stale_data(stack: Stack) -> None:
    async with (
        client(stack, OTHER) as shop,
        grpc.aio.insecure_channel(stack.endpoints[FROZEN]) as channel,
    ):
        campaign = await a_campaign(shop)
        placed = await asyncio.gather(*(shop.place_order(**an_order(campaign, f"c{n}")) for n in range(GROUPS)))
        groups = [one.order.group for one in placed]
        await wait_for_async(lambda: _is(stack, FROZEN, groups, all_of_them=False), seconds=30)
        group = min(await owned_by(stack, FROZEN, groups))
        frozen = GroupServiceStub(channel)

        async def read_version(*, passed_on: bool) -> int | None:
            """The group's version as returned by the replica; None if the call fails."""
            # A forwarded call is answered by the replica itself.
            marks = ((FORWARDED, "1"),) if passed_on else ()
            try:
                answer = await frozen.GetGroup(GetGroupRequest(name=group), timeout=SOON_S, metadata=marks)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                return None
            return answer.version

        before = await read_version(passed_on=True)
        assert before is not None
        stack.freeze(FROZEN)
        try:
            await wait_for_async(lambda: _is(stack, OTHER, groups, all_of_them=True), seconds=40)
            await shop.place_order(**an_order(campaign, "friend", group))
            now = (await shop.get_group(group)).version
            assert now > before
            waiting = [asyncio.create_task(read_version(passed_on=bool(n % 2))) for n in range(WAITING)]
            await moment(0.5)
            assert not any(one.done() for one in waiting)
        finally:
            stack.thaw(FROZEN)
        versions = list(await asyncio.gather(*waiting))
        for n in range(AFTERWARDS):
            versions.append(await read_version(passed_on=bool(n % 2)))
            await moment(0.02)
        assert set(versions) <= {now, None}, (before, now, versions)
        # In the end it responds with the current version, itself or by its peer.
        assert await read_version(passed_on=False) == now
