"""Health, reflection and channelz of every server. Their calls need no deadline."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from groupbuy.orders.v1 import orders_pb2_grpc
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from chassis.identity.authorizer import Authorizer
from chassis.rpc.reflection import read_comments
from chassis.rpc.server import MAX_RECEIVE_BYTES, OPERATIONS, PortTaken, Server, Servicer
from tests.unit.chassis.fake_orders import ORDERS, FakeOrders
from tests.unit.chassis.support import SOON_S, Refusal, refusal, running

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_is_not_serving_until_set_for_the_process_and_each_service() -> None:
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
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=ORDERS),
        ]
        listed, file = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
        assert {one.name for one in listed.list_services_response.service} == {
            ORDERS,
            "grpc.health.v1.Health",
            "grpc.channelz.v1.Channelz",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        assert file.file_descriptor_response.file_descriptor_proto


async def test_reflection_serves_the_comments_of_the_contract() -> None:
    async with running() as run:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(run.channel)
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=ORDERS)
        (answer,) = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
    files = [FileDescriptorProto.FromString(one) for one in answer.file_descriptor_response.file_descriptor_proto]
    pool = descriptor_pool.DescriptorPool()
    # Imports come after the files that import them.
    for file in reversed(files):
        pool.Add(file)
    assert pool.FindServiceByName(ORDERS).methods_by_name["PlaceOrder"].input_type.fields_by_name["customer"]
    ours = next(file for file in files if file.name == "groupbuy/orders/v1/orders.proto")
    comments = {tuple(one.path): one.leading_comments.strip() for one in ours.source_code_info.location}
    # Every message and every field has one; 4 is the number of message_type, 2 of field.
    for index, message in enumerate(ours.message_type):
        assert comments[(4, index)], message.name
        for number, field in enumerate(message.field):
            assert comments[(4, index, 2, number)], f"{message.name}.{field.name}"
    methods = {method.name: comments[(6, 0, 2, index)] for index, method in enumerate(ours.service[0].method)}
    assert methods["GetOrder"].startswith("Reads one order.")


async def test_reflection_without_the_descriptor_set_has_no_comments(tmp_path: Path) -> None:
    assert read_comments(tmp_path / "missing.binpb") == {}
    (tmp_path / "damaged.binpb").write_bytes(b"\xff")
    assert read_comments(tmp_path / "damaged.binpb") == {}


async def test_channelz_counts_calls_without_a_deadline() -> None:
    async with running() as run:
        await run.place()
        stub: Any = channelz_pb2_grpc.ChannelzStub(run.channel)
        servers = await stub.GetServers(channelz_pb2.GetServersRequest())
        assert sum(server.data.calls_succeeded for server in servers.server) >= 1


def orders_server(name: str = ORDERS) -> Server:
    add: Any = orders_pb2_grpc.add_OrderServiceServicer_to_server
    return Server(
        [Servicer(add, FakeOrders(), name)], max_calls=1, max_streams=1, authorizer=Authorizer(None), files=None
    )


async def test_a_port_of_another_grpc_server_is_refused() -> None:
    async with running() as run:
        with pytest.raises(PortTaken, match="address already in use"):
            orders_server().bind(f"127.0.0.1:{run.port}")


async def test_an_address_of_another_machine_is_refused_with_a_reason() -> None:
    with pytest.raises(PortTaken, match=r"can't listen on 192\.0\.2\.1:1"):
        orders_server().bind("192.0.2.1:1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortTaken):
            orders_server().bind(f"localhost:{taken.getsockname()[1]}")


async def test_a_service_with_a_wrong_name_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match=r"groupbuy\.orders\.v1\.OtherService"):
        orders_server("groupbuy.orders.v1.OtherService")


#: Invalid bytes, and a message above the limit, for every operational method.
GARBAGE = (b"\xff\xff\xff", b"\x0a\xff", b"\x00", b"\xff" * 300_000)


def operational() -> list[tuple[str, str]]:
    """Paths and kinds of the operational methods of a process."""
    pool = descriptor_pool.Default()
    found = []
    for name in OPERATIONS:
        for method in pool.FindServiceByName(name).methods:
            if method.full_name == "grpc.health.v1.Health.List":
                continue
            kind = (
                f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
            )
            found.append((f"/{name}/{method.name}", kind))
    return found


async def refused(channel: grpc.aio.Channel, path: str, kind: str, *requests: bytes) -> Refusal:
    stub: Any = getattr(channel, kind)(path, None, None)
    made = stub(iter(requests) if kind.startswith("stream") else requests[0], timeout=SOON_S)

    async def answered() -> None:
        if kind.endswith("stream"):
            async for _ in made:
                pass
        await made

    return await refusal(answered())


@pytest.mark.parametrize(("path", "kind"), operational())
async def test_invalid_bytes_to_operational_methods_are_refused(
    path: str, kind: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as run:
        for garbage in GARBAGE:
            got = await refused(run.channel, path, kind, garbage)
            assert got.code is grpc.StatusCode.INVALID_ARGUMENT
            assert got.info.reason == ("MESSAGE_TOO_LARGE" if len(garbage) > 3 else "INVALID_FIELDS")
        assert len(run.server.pipeline.operations) == 0
    output = capsys.readouterr()
    assert "Traceback" not in output.out + output.err + caplog.text


async def test_a_message_that_grpc_refuses_is_not_logged(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as run:
        for path in ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", f"/{ORDERS}/WatchOrder"):
            stub: Any = run.channel.unary_stream(path, None, None)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in stub(b"\xff" * (MAX_RECEIVE_BYTES + 1), timeout=SOON_S):
                    pass
            assert caught.value.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT}
        assert len(run.server.pipeline.operations) + len(run.server.pipeline.streams) == 0
    output = capsys.readouterr()
    assert "Traceback" not in output.out + output.err + caplog.text


@pytest.mark.parametrize(("path", "kind"), [one for one in operational() if not one[1].startswith("stream")])
async def test_a_call_without_its_request_is_refused(path: str, kind: str) -> None:
    async with running() as run:
        got = await refused(run.channel, path, "stream_" + kind.partition("_")[2])
        assert (got.code, got.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")


async def test_a_call_without_a_request_frees_its_slot_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.rpc.steps.time_limits.REQUEST_S", 0.2)
    async with running() as run:
        for path in ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", f"/{ORDERS}/WatchOrder"):
            stub: Any = run.channel.stream_stream(path, None, None)
            silent = stub()

            async def read(silent: Any = silent) -> None:
                await silent.read()

            got = await refusal(asyncio.wait_for(read(), SOON_S))
            assert (got.code, got.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
        assert len(run.server.pipeline.operations) + len(run.server.pipeline.streams) == 0


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("GetServer", channelz_pb2.GetServerRequest(server_id=2**62)),
        ("GetSocket", channelz_pb2.GetSocketRequest(socket_id=-1)),
        ("GetChannel", channelz_pb2.GetChannelRequest(channel_id=-(2**63))),
        ("GetServerSockets", channelz_pb2.GetServerSocketsRequest(server_id=2**62, max_results=-1)),
    ],
)
async def test_errors_of_libraries_have_a_reason_too(name: str, request_: Any) -> None:
    async with running() as run:
        stub: Any = channelz_pb2_grpc.ChannelzStub(run.channel)
        got = await refusal(getattr(stub, name)(request_, timeout=SOON_S))
        assert got.code is grpc.StatusCode.NOT_FOUND
        assert got.info.reason == "INVALID_FIELDS"
        got = await refusal(run.health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=SOON_S))
        assert (got.code, got.info.reason) == (grpc.StatusCode.NOT_FOUND, "INVALID_FIELDS")
