"""No channel of ours goes through the environment's proxy, unless the client's options say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import groupbuy_client
from chassis.identity.access_settings import SecuritySettings
from chassis.identity.tls import RotatingChannel, open_channel
from chassis.rpc.client_config import channel_options
from groupbuy_client import AsyncClient
from groupbuy_testing.running import OPTIONS as PLUGIN_OPTIONS
from tests.fake_proxy import FakeProxy, proxied


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProxy]:
    with proxied(monkeypatch) as made:
        yield made


@pytest.fixture
def server() -> Iterator[str]:
    """host:port of a server that has the health service alone."""
    made = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), made)
    port = made.add_insecure_port("127.0.0.1:0")
    made.start()
    yield f"127.0.0.1:{port}"
    made.stop(None)


def check(channel: grpc.Channel) -> None:
    health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)


def test_stock_channels_to_loopback_use_the_proxy(proxy: FakeProxy, server: str) -> None:
    with grpc.insecure_channel(server) as channel, pytest.raises(grpc.RpcError):
        check(channel)
    assert proxy.connections > 0


@pytest.mark.parametrize("options", [channel_options.options(), channel_options.DIRECT, PLUGIN_OPTIONS])
def test_our_channel_options_reach_the_server_directly(
    options: channel_options.Options, proxy: FakeProxy, server: str
) -> None:
    with grpc.insecure_channel(server, options=options) as channel:
        check(channel)
    assert proxy.connections == 0


@pytest.mark.parametrize(
    "opened",
    [
        lambda target: RotatingChannel(target, None, "").channel(),
        lambda target: open_channel(target, SecuritySettings(insecure=True), ""),
    ],
    ids=["rotating", "opened"],
)
async def test_channels_of_services_and_of_the_command_line_reach_the_server_directly(
    opened: Callable[[str], grpc.aio.Channel], proxy: FakeProxy, server: str
) -> None:
    async with opened(server) as channel:
        stub: health_pb2_grpc.HealthAsyncStub = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert proxy.connections == 0


async def test_the_client_reaches_a_service_directly(proxy: FakeProxy, server: str) -> None:
    # The server has no such method: it was reached.
    with groupbuy_client.Client(server, timeout_s=5) as client, pytest.raises(groupbuy_client.GroupbuyError) as caught:
        client.get_group("groups/x")
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
    async with AsyncClient(server, timeout_s=5) as async_client:
        with pytest.raises(groupbuy_client.GroupbuyError) as caught:
            await async_client.get_group("groups/x")
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
    assert proxy.connections == 0


def test_an_option_of_the_client_turns_the_proxy_on(proxy: FakeProxy, server: str) -> None:
    options = [("grpc.enable_http_proxy", 1)]
    with (
        groupbuy_client.Client(server, timeout_s=0.5, options=options) as client,
        pytest.raises(groupbuy_client.GroupbuyError) as caught,
    ):
        client.get_group("groups/x")
    assert caught.value.code is not grpc.StatusCode.UNIMPLEMENTED
    assert proxy.connections > 0
