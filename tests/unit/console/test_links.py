"""What links lead to: read once a second at most, and again as soon as a followed group closes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from groupbuy.groups.v1.groups_pb2 import Group, GroupState, WatchGroupRequest
from groupbuy.groups.v1.groups_pb2_grpc import GroupServiceServicer, add_GroupServiceServicer_to_server
from groupbuy.groups.v1.links_pb2 import ResolveShareLinkRequest, ResolveShareLinkResponse
from groupbuy.groups.v1.links_pb2_grpc import LinkServiceServicer, add_LinkServiceServicer_to_server

from chassis.identity.tls import RotatingChannel
from chassis.rpc.client_config.channel_options import options
from console.share import links as links_module
from console.share.links import Links
from tests.unit.console.support import group


class Groups(GroupServiceServicer, LinkServiceServicer):
    """A group that forms, and closes while it is followed."""

    def __init__(self) -> None:
        self.found = group(2)
        self.asked = 0

    async def ResolveShareLink(self, request: ResolveShareLinkRequest, context: Any) -> ResolveShareLinkResponse:
        self.asked += 1
        return ResolveShareLinkResponse(group=self.found)

    async def WatchGroup(self, request: WatchGroupRequest, context: Any) -> AsyncIterator[Group]:
        yield self.found
        self.found = group(5, GroupState.GROUP_STATE_COMPLETED)
        yield self.found


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Groups, Links]]:
    monkeypatch.setattr(links_module, "KEEP_S", 60.0)
    made, server = Groups(), grpc.aio.server()  # type: ignore[abstract]
    add_GroupServiceServicer_to_server(made, server)
    add_LinkServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    links = Links(RotatingChannel(f"127.0.0.1:{port}", None, "", options(retries=False)))
    yield made, links
    await links.close()
    await server.stop(0)


async def test_a_link_is_read_again_once_its_group_closed(served: tuple[Groups, Links]) -> None:
    groups, links = served
    for _ in range(3):
        assert (await links.resolve("token")).group.state == GroupState.GROUP_STATE_FORMING
    assert groups.asked == 1
    states: list[int] = []
    await links.follow(groups.found.name, lambda one: states.append(one.state), lambda: None)
    assert states == [GroupState.GROUP_STATE_FORMING, GroupState.GROUP_STATE_COMPLETED]
    assert (await links.resolve("token")).group.state == GroupState.GROUP_STATE_COMPLETED
    assert groups.asked == 2
