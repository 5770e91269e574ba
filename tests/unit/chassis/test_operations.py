"""What operators' tools find on every server: health by service, reflection, channelz. None needs a deadline."""

from __future__ import annotations

import socket
from typing import Any

import grpc
import pytest
from groupbuy.orders.v1 import orders_pb2_grpc
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from chassis.auth import Access
from chassis.server import PortTaken, Server, Servicer
from tests.unit.chassis.fake_orders import ORDERS, FakeOrders
from tests.unit.chassis.support import running

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_says_not_serving_until_told_otherwise_overall_and_by_service() -> None:
    async with running() as run:
        assert [await run.status_of(name) for name in ("", ORDERS)] == [NOT_SERVING, NOT_SERVING]
        await run.server.set_serving(True)
        assert [await run.status_of(name) for name in ("", ORDERS)] == [SERVING, SERVING]
        await run.server.set_serving(False)
        assert [await run.status_of(name) for name in ("", ORDERS)] == [NOT_SERVING, NOT_SERVING]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await run.status_of("groupbuy.nobody.v1.NobodyService")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services_and_gives_their_files() -> None:
    async with running() as run:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(run.channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=ORDERS),
        ]
        listed, file = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
        assert {one.name for one in listed.list_services_response.service} == {
            ORDERS,
            "grpc.health.v1.Health",
            "grpc.channelz.v1.Channelz",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        assert file.file_descriptor_response.file_descriptor_proto


async def test_channelz_counts_calls_without_a_deadline() -> None:
    async with running() as run:
        await run.place()
        stub: Any = channelz_pb2_grpc.ChannelzStub(run.channel)
        servers = await stub.GetServers(channelz_pb2.GetServersRequest())
        assert sum(server.data.calls_succeeded for server in servers.server) >= 1


def orders_server(name: str = ORDERS) -> Server:
    add: Any = orders_pb2_grpc.add_OrderServiceServicer_to_server
    return Server([Servicer(add, FakeOrders(), name)], max_calls=1, max_streams=1, access=Access(None), files=None)


async def test_a_port_in_use_is_refused_even_when_another_grpc_server_has_it() -> None:
    async with running() as run:
        with pytest.raises(PortTaken, match="address already in use"):
            orders_server().bind(f"127.0.0.1:{run.port}")


async def test_an_address_that_is_not_ours_is_refused_with_a_reason() -> None:
    with pytest.raises(PortTaken, match=r"can't listen on 192\.0\.2\.1:1"):
        orders_server().bind("192.0.2.1:1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortTaken):
            orders_server().bind(f"localhost:{taken.getsockname()[1]}")


async def test_a_service_under_a_wrong_name_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match=r"groupbuy\.orders\.v1\.OtherService"):
        orders_server("groupbuy.orders.v1.OtherService")
