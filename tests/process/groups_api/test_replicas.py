"""Goal: every replica shows the same group, and none reports an existing group as not found.

Method: three gRPC servers in this process, each with a view that answers for its own partitions only. The tests change
the owners, for one replica before the others if the replicas have to disagree.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import grpc
import pytest
from groupbuy.groups.v1 import groups_pb2_grpc
from groupbuy.groups.v1.groups_pb2 import (
    GROUP_STATE_CANCELLED,
    CancelGroupRequest,
    GetGroupRequest,
    ListGroupsRequest,
    WatchGroupRequest,
)

from chassis.identity.authorizer import Authorizer
from chassis.routing import partition_router as replicas_module
from chassis.routing.partition_router import PartitionRouter
from chassis.routing.peer_calls import FORWARDED, PARTITIONS
from chassis.rpc.server import Server, Servicer
from eventlog.core.aggregate import Aggregate
from eventlog.core.errors import NotReady
from eventlog.core.partitioner import partition_of
from services.groups.api.groups import GroupServicer
from services.groups.domain.model import Phase, State
from services.groups.processors.open_groups import OpenGroup
from tests.unit.chassis.support import SOON_S, Refusal, eventually, refusal
from tests.unit.groups_api.world import Broker, Table, forming

SERVICE = "groupbuy.groups.v1.GroupService"
COUNT = 6
REQUEST = "5b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11"


def key(number: int) -> str:
    return str(UUID(int=number))


def one_in(partition: int) -> str:
    """The id of a group in a partition."""
    return next(key(number) for number in range(1, 1_000) if partition_of(key(number), COUNT) == partition)


class OwnTable(Table):
    """A decider's view of the partitions that are ready here."""

    def __init__(self) -> None:
        super().__init__()
        self.ready: set[int] = set()

    def get(self, key: str) -> Aggregate[State] | None:
        if partition_of(key, COUNT) not in self.ready:
            raise NotReady("not ready here")
        return super().get(key)

    def nearest(
        self,
        campaign: str,
        after: tuple[int, int, str] | None,
        limit: int,
        partitions: Collection[int] | None = None,
        /,
    ) -> list[OpenGroup]:
        expected = set(range(COUNT) if partitions is None else partitions)
        if not expected <= self.ready:
            raise NotReady("some are not ready here")
        found = self.open.nearest(campaign, after, 1_000)
        return [one for one in found if partition_of(one.group, COUNT) in expected][:limit]


class Peer:
    """A channel of the test."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)

    def channel(self) -> grpc.aio.Channel:
        return self._channel

    async def close(self) -> None:
        await self._channel.close(None)


class Replica:
    """One process: its view, its known owners, and a client."""

    partitions = COUNT

    def __init__(self) -> None:
        self.table = OwnTable()
        self.broker = Broker()
        self.owners: dict[int, str] = {}
        self.address = ""
        self.calls = 0

    def owner(self, partition: int) -> str:
        return self.owners.get(partition, "")

    async def start(self) -> None:
        listening: list[Any] = []
        # The port is known only after the servicer is built.
        self.replicas = PartitionRouter(SERVICE, self, "", Peer)
        servicer = GroupServicer(self.table, self.broker, replicas=self.replicas)
        get = servicer.GetGroup

        async def counted(request: Any, context: Any) -> Any:
            self.calls += 1
            return await get(request, context)

        servicer.GetGroup = counted  # type: ignore[method-assign]
        listening.append(Servicer(groups_pb2_grpc.add_GroupServiceServicer_to_server, servicer, SERVICE))
        self.server = Server(listening, max_calls=5_000, max_streams=100, authorizer=Authorizer(None), files=None)
        self.address = f"127.0.0.1:{self.server.bind('127.0.0.1:0')}"
        self.replicas._address = self.address
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(self.address)
        self.stub: Any = groups_pb2_grpc.GroupServiceStub(self.channel)

    async def stop(self) -> None:
        await self.channel.close(None)
        await self.replicas.close()
        await self.server.drain(0.1)


class Cluster:
    """Three replicas that agree on the owners until a test changes them."""

    def __init__(self) -> None:
        self.all = [Replica() for _ in range(3)]

    def assign(self, partition: int, owner: Replica, *, ready: bool = True, tell: bool = True) -> None:
        """Moves a partition to a replica. With `tell`, all replicas learn of it."""
        for one in self.all:
            one.table.ready.discard(partition)
            if tell:
                one.owners[partition] = owner.address
            one.table.notifier.notify_all()
        if ready:
            owner.table.ready.add(partition)

    def put(self, group: str, state: State, version: int = 1) -> None:
        """Puts a group into every view. Ownership decides which replica answers."""
        for one in self.all:
            one.table.put(state, version, group)


@asynccontextmanager
async def running() -> AsyncIterator[Cluster]:
    made = Cluster()
    for one in made.all:
        await one.start()
    for partition in range(COUNT):
        made.assign(partition, made.all[partition % 3])
    try:
        yield made
    finally:
        for one in made.all:
            await one.stop()


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with running() as made:
        yield made


async def get(replica: Replica, group: str, seconds: float = SOON_S, **more: Any) -> Any:
    return await replica.stub.GetGroup(GetGroupRequest(name=f"groups/{group}"), timeout=seconds, **more)


async def test_every_replica_shows_every_group(cluster: Cluster) -> None:
    for partition in range(COUNT):
        cluster.put(one_in(partition), forming(2), version=partition + 1)
    for replica in cluster.all:
        shown = [(await get(replica, one_in(partition))).version for partition in range(COUNT)]
        assert shown == list(range(1, COUNT + 1))


async def test_the_owner_reports_an_unknown_group_with_its_reason(cluster: Cluster) -> None:
    refused = await refusal(get(cluster.all[1], one_in(0)))
    assert refused.code is grpc.StatusCode.NOT_FOUND
    assert refused.info.reason == "GROUP_NOT_FOUND"
    assert refused.info.metadata == {"group": f"groups/{one_in(0)}"}


async def test_a_partition_without_a_ready_owner_is_unavailable_not_not_found(
    cluster: Cluster,
) -> None:
    cluster.assign(0, cluster.all[0], ready=False)
    for replica in cluster.all:
        refused = await refusal(get(replica, one_in(0), seconds=1.0))
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert refused.info.reason == "NOT_READY"
        assert refused.retry_after_ms > 0


async def test_a_call_waits_for_the_next_owner(cluster: Cluster) -> None:
    cluster.put(one_in(0), forming(2), version=7)
    cluster.assign(0, cluster.all[0], ready=False)
    calls = [asyncio.create_task(get(replica, one_in(0))) for replica in cluster.all]
    await eventually(lambda: all(replica.replicas.waiting for replica in cluster.all))
    cluster.assign(0, cluster.all[2])
    assert [group.version for group in await asyncio.gather(*calls)] == [7, 7, 7]


async def test_a_call_is_forwarded_once_when_replicas_disagree(cluster: Cluster) -> None:
    first, second, _ = cluster.all
    cluster.assign(0, first, ready=False)
    first.owners[0], second.owners[0] = second.address, first.address
    refused = await refusal(get(first, one_in(0), seconds=1.0))
    assert refused.code is grpc.StatusCode.UNAVAILABLE
    # The call of the client, and no call that the other replica has returned.
    assert first.calls == 1
    assert second.calls > 1
    refused = await refusal(get(second, one_in(0), metadata=((FORWARDED, "1"),)))
    assert refused.code is grpc.StatusCode.UNAVAILABLE


async def test_a_call_to_a_lost_replica_is_retried_until_its_partitions_move(cluster: Cluster) -> None:
    cluster.put(one_in(0), forming(2), version=7)
    gone, left, heir = cluster.all
    await gone.server.drain(0.1)
    pending = asyncio.create_task(get(left, one_in(0)))
    await eventually(lambda: bool(left.replicas.waiting))
    cluster.assign(0, heir)
    assert (await pending).version == 7


async def test_a_cancel_that_waits_at_an_owner_continues_at_the_next(cluster: Cluster) -> None:
    group = one_in(0)
    cluster.put(group, forming(2))
    first, replica_called, heir = cluster.all
    request = CancelGroupRequest(name=f"groups/{group}", request_id=REQUEST)
    pending = asyncio.ensure_future(replica_called.stub.CancelGroup(request, timeout=SOON_S))
    await eventually(lambda: bool(first.broker.records))
    # The owner no longer decides or answers. The group has moved, but the owner has not learned of it.
    cluster.assign(0, heir)
    first.table.ready.add(0)
    await eventually(lambda: bool(heir.broker.records))
    ended = forming(2)
    ended.phase = Phase.CANCELLED
    heir.table.put(ended, 2, group)
    assert (await pending).state == GROUP_STATE_CANCELLED


async def pages(replica: Replica, size: int) -> list[list[str]]:
    found: list[list[str]] = []
    token = ""
    while True:
        request = ListGroupsRequest(campaign="campaigns/mug", page_size=size, page_token=token)
        page = await replica.stub.ListGroups(request, timeout=SOON_S)
        found.append([group.name.removeprefix("groups/") for group in page.groups])
        token = page.next_page_token
        if not token:
            return found


@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_pages_merge_replicas_with_every_group_once_and_in_order(cluster: Cluster, size: int) -> None:
    expected = []
    for number in range(1, 24):
        state = forming(number % 7)
        state.deadline_ms += number % 3
        cluster.put(key(number), state)
        expected.append((state.seats_left, state.deadline_ms, key(number)))
    for replica in cluster.all:
        found = await pages(replica, size)
        assert [group for page in found for group in page] == [group for *_, group in sorted(expected)]
        assert all(len(page) == size for page in found[:-1])


async def test_a_page_token_is_valid_at_another_replica_and_after_a_move(cluster: Cluster) -> None:
    for number in range(1, 21):
        cluster.put(key(number), forming(2))
    request = ListGroupsRequest(campaign="campaigns/mug", page_size=5)
    found = []
    for turn in range(4):
        page = await cluster.all[turn % 3].stub.ListGroups(request, timeout=SOON_S)
        found += [group.name for group in page.groups]
        request.page_token = page.next_page_token
        cluster.assign(turn, cluster.all[(turn + 1) % 3])
    assert found == [f"groups/{key(number)}" for number in range(1, 21)]
    assert not request.page_token


async def test_a_list_needs_all_partitions_to_be_ready(cluster: Cluster) -> None:
    for number in range(1, 21):
        cluster.put(key(number), forming(2))
    cluster.assign(4, cluster.all[1], ready=False)
    request = ListGroupsRequest(campaign="campaigns/mug")
    for replica in cluster.all:
        refused = await refusal(replica.stub.ListGroups(request, timeout=0.3))
        assert refused.code is grpc.StatusCode.UNAVAILABLE
    pending = asyncio.ensure_future(cluster.all[0].stub.ListGroups(request, timeout=SOON_S))
    await eventually(lambda: bool(cluster.all[0].replicas.waiting))
    cluster.assign(4, cluster.all[2])
    assert len((await pending).groups) == 20


async def test_partitions_that_are_not_numbers_are_refused(cluster: Cluster) -> None:
    request = ListGroupsRequest(campaign="campaigns/mug")
    refused: Refusal = await refusal(
        cluster.all[0].stub.ListGroups(request, timeout=SOON_S, metadata=((PARTITIONS, "1,x"),))
    )
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_watch_follows_its_group_from_owner_to_owner_without_duplicates(cluster: Cluster) -> None:
    group = one_in(0)
    cluster.put(group, forming(1), version=1)
    streams = [replica.stub.WatchGroup(WatchGroupRequest(name=f"groups/{group}")) for replica in cluster.all]
    versions: list[list[int]] = [[] for _ in streams]
    for version, owner in ((1, 0), (2, 1), (3, 2), (4, 0), (5, 1)):
        cluster.assign(0, cluster.all[owner])
        cluster.put(group, forming(1), version=version)
        for stream, seen in zip(streams, versions, strict=True):
            async with asyncio.timeout(SOON_S):
                seen.append((await stream.read()).version)
    for stream in streams:
        stream.cancel()
    assert versions == [[1, 2, 3, 4, 5]] * 3


async def test_calls_that_wait_for_an_owner_are_limited(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas_module, "MAX_WAITING", 3)
    cluster.put(one_in(0), forming(2))
    cluster.assign(0, cluster.all[0], ready=False)
    waiting = [asyncio.create_task(get(cluster.all[0], one_in(0), seconds=5)) for _ in range(8)]
    soonest = next(iter(asyncio.as_completed(waiting)))
    first = await refusal(soonest)
    assert first.info.reason == "NOT_READY"
    assert first.retry_after_ms > 0
    assert cluster.all[0].replicas.waiting <= 3
    # Ready partitions are answered meanwhile.
    cluster.put(one_in(3), forming(2))
    assert (await get(cluster.all[0], one_in(3))).version == 1
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
