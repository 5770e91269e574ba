"""A running server to test the chassis with, and what a refused call was answered, unpacked."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.admission.thread_priority import SERVING, ThreadPriorities
from chassis.identity.authorizer import Authorizer
from chassis.rpc.server import Server, Servicer
from tests.unit.chassis.fake_orders import ORDERS, FakeOrders

GROUP = "6f1c0a1e-0d5d-4f4e-9a57-0a3a1f0a8d10"
NAME = f"groups/{GROUP}/orders/{GROUP}"
#: Bound of every wait: reached only when something is wrong, so wide enough for a machine that is busy.
SOON_S = 30.0

M = TypeVar("M", bound=Message)


def a_request(**changes: Any) -> orders_pb2.PlaceOrderRequest:
    """A request that breaks no rule, but for the changes."""
    fields: dict[str, Any] = {
        "customer": "c1",
        "campaign": "campaigns/mug",
        "quantity": 1,
        "currency": "CNY",
        "max_unit_price_minor": 8900,
        "payment_method": "card_ok",
        "request_id": str(uuid.UUID(int=7)),
    }
    return orders_pb2.PlaceOrderRequest(**{**fields, **changes})


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; fails after SOON_S."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(SOON_S):
        while not condition():
            tick = loop.create_future()
            loop.call_later(0.005, tick.set_result, None)
            await tick


class Running:
    """A server that runs, and a channel to it."""

    def __init__(self, server: Server, port: int, channel: grpc.aio.Channel, orders: FakeOrders) -> None:
        self.server = server
        self.port = port
        self.channel = channel
        self.fake = orders
        self.orders: Any = orders_pb2_grpc.OrderServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    async def place(self, request: Message | None = None, within_s: float | None = SOON_S, **more: Any) -> Any:
        """PlaceOrder with a deadline, unless told otherwise."""
        return await self.orders.PlaceOrder(request or a_request(), timeout=within_s, **more)

    async def status_of(self, service: str = "") -> int:
        """What health says of a service."""
        answer = await self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=SOON_S)
        return int(answer.status)


@asynccontextmanager
async def running(
    *, max_calls: int = 100, max_streams: int = 100, add: Any = None, thread_priorities: ThreadPriorities = SERVING
) -> AsyncIterator[Running]:
    """A server on a free port for as long as the block lasts."""
    fake = FakeOrders()
    servicers = [Servicer(add or orders_pb2_grpc.add_OrderServiceServicer_to_server, fake, ORDERS)]
    server = Server(
        servicers,
        max_calls=max_calls,
        max_streams=max_streams,
        access=Authorizer(None),
        files=None,
        thread_priorities=thread_priorities,
    )
    port = server.bind("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield Running(server, port, channel, fake)
        finally:
            fake.release.set()
            await server.drain(1)


class Refusal:
    """What a refused call was answered, unpacked."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.details = error.details()
        trailing: Any = error.trailing_metadata()
        self.trailing: dict[str, Any] = dict(trailing)
        self.status = status_pb2.Status.FromString(self.trailing["grpc-status-details-bin"])

    def detail(self, kind: type[M]) -> M | None:
        """The detail of a kind, or None."""
        for packed in self.status.details:
            found = kind()
            if packed.Unpack(found):
                return found
        return None

    @property
    def info(self) -> Any:
        """ErrorInfo; there always is one."""
        found = self.detail(error_details_pb2.ErrorInfo)
        assert found is not None
        assert found.domain == "groupbuy"
        return found

    @property
    def fields(self) -> dict[str, str]:
        """BadRequest's fields and what is wrong with each."""
        found = self.detail(error_details_pb2.BadRequest)
        return {one.field: one.description for one in found.field_violations} if found else {}

    @property
    def retry_after_ms(self) -> int:
        """RetryInfo's delay; 0: none."""
        found = self.detail(error_details_pb2.RetryInfo)
        return int(found.retry_delay.ToMilliseconds()) if found else 0


async def refusal(call: Awaitable[Any]) -> Refusal:
    """Expects the call to be refused, with details."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Refusal(caught.value)


def niceness(process: int) -> dict[str, set[int]]:
    """Of a process's threads, by name. Linux alone has it."""
    found: dict[str, set[int]] = {}
    for task in Path(f"/proc/{process}/task").iterdir():
        # It may end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            name = (task / "comm").read_text().strip()
            found.setdefault(name, set()).add(os.getpriority(os.PRIO_PROCESS, int(task.name)))
    return found
