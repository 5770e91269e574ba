"""A service that is killed and back after 4 s fails no call of a client that has the contract's retry policy.

The clients: a plain channel with the committed service config and no other option, and both Python clients.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import grpc
import pytest
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc

from chassis.rpc.client_config import service_config
from chassis.rpc.client_config.channel_options import DIRECT
from chassis.rpc.client_config.retry_policy import RESTART_S
from devstack.supervision.ports import free_port
from groupbuy_client import AsyncClient, Client
from tests.unit.chassis.support import NAME

#: Calls that each client keeps in flight.
AT_ONCE = 4
#: Deadline in seconds of a call, as the client's.
TIMEOUT_S = 10.0
#: Seconds for the whole test.
LIMIT_S = 60.0

GetOrder = Callable[[], Awaitable[orders_pb2.Order]]


async def started(port: int) -> asyncio.subprocess.Process:
    """A server process that listens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.process.client.order_server", str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"serves\n"
    return process


async def ask_until(pid: asyncio.Future[int], get_order: GetOrder) -> int:
    """Calls without a pause until the process of `pid` has answered, and returns the number of calls."""
    calls = 0
    while True:
        order = await get_order()
        calls += 1
        if pid.done() and order.revision == pid.result():
            return calls


@pytest.mark.timeout(2 * LIMIT_S)
async def test_each_client_bridges_the_restart_of_a_killed_service() -> None:
    port = free_port()
    target = f"127.0.0.1:{port}"
    async with AsyncExitStack() as stack, asyncio.timeout(LIMIT_S):
        config = service_config.text("orders")
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(target, options=[("grpc.service_config", config), *DIRECT])
        )
        plain = orders_pb2_grpc.OrderServiceStub(channel)
        of_loop = await stack.enter_async_context(AsyncClient(target, timeout_s=TIMEOUT_S))
        of_threads = stack.enter_context(Client(target, timeout_s=TIMEOUT_S))
        request = orders_pb2.GetOrderRequest(name=NAME)
        clients: list[GetOrder] = [
            lambda: plain.GetOrder(request, timeout=TIMEOUT_S),
            lambda: of_loop.get_order(NAME),
            lambda: asyncio.to_thread(of_threads.get_order, NAME),
        ]
        first = await started(port)
        assert {(await get_order()).revision for get_order in clients} == {first.pid}
        second: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asking = [asyncio.create_task(ask_until(second, get_order)) for get_order in clients for _ in range(AT_ONCE)]
        # All of them are answered at least once more, and have calls in flight when the process dies.
        assert {(await get_order()).revision for get_order in clients} == {first.pid}
        first.kill()
        await first.wait()
        await asyncio.sleep(RESTART_S)
        process = await started(port)
        try:
            second.set_result(process.pid)
            assert all(calls >= 2 for calls in await asyncio.gather(*asking))
        finally:
            process.kill()
            await process.wait()
