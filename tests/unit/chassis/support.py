"""A running server for tests of the chassis, and the unpacked error of a call."""

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
#: Timeout of every wait in seconds: only a failing test reaches it, so it is long enough for a busy machine.
SOON_S = 30.0

M = TypeVar("M", bound=Message)


def a_request(**changes: Any) -> orders_pb2.PlaceOrderRequest:
    """A valid request, with these changes."""
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
    """A running server and a channel to it."""

    def __init__(self, server: Server, port: int, channel: grpc.aio.Channel, orders: FakeOrders) -> None:
        self.server = server
        self.port = port
        self.channel = channel
        self.fake = orders
        self.orders: Any = orders_pb2_grpc.OrderServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    async def place(self, request: Message | None = None, within_s: float | None = SOON_S, **more: Any) -> Any:
        """Calls PlaceOrder, by default with a deadline."""
        return await self.orders.PlaceOrder(request or a_request(), timeout=within_s, **more)

    async def status_of(self, service: str = "") -> int:
        """The health of a service."""
        answer = await self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=SOON_S)
        return int(answer.status)


@asynccontextmanager
async def running(
    *, max_calls: int = 100, max_streams: int = 100, add: Any = None, thread_priorities: ThreadPriorities = SERVING
) -> AsyncIterator[Running]:
    """A server on a free port in the block."""
    fake = FakeOrders()
    servicers = [Servicer(add or orders_pb2_grpc.add_OrderServiceServicer_to_server, fake, ORDERS)]
    server = Server(
        servicers,
        max_calls=max_calls,
        max_streams=max_streams,
        authorizer=Authorizer(None),
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
    """The unpacked error of a call."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.details = error.details()
        trailing: Any = error.trailing_metadata()
        # A list of pairs: the keys() of the oldest grpcio are pairs, so dict(trailing) fails.
        self.trailing: dict[str, Any] = dict(list(trailing))
        self.status = status_pb2.Status.FromString(self.trailing["grpc-status-details-bin"])

    def detail(self, kind: type[M]) -> M | None:
        """The detail of a type, or None."""
        for packed in self.status.details:
            found = kind()
            if packed.Unpack(found):
                return found
        return None

    @property
    def info(self) -> Any:
        """The ErrorInfo, which every error has."""
        found = self.detail(error_details_pb2.ErrorInfo)
        assert found is not None
        assert found.domain == "groupbuy"
        return found

    @property
    def fields(self) -> dict[str, str]:
        """The fields of BadRequest, each with the reason."""
        found = self.detail(error_details_pb2.BadRequest)
        return {one.field: one.description for one in found.field_violations} if found else {}

    @property
    def retry_after_ms(self) -> int:
        """The delay of RetryInfo; 0 without one."""
        found = self.detail(error_details_pb2.RetryInfo)
        return int(found.retry_delay.ToMilliseconds()) if found else 0


async def refusal(call: Awaitable[Any]) -> Refusal:
    """Expects an error with details, and returns it."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Refusal(caught.value)


def niceness(process: int) -> dict[str, set[int]]:
    """Nice values of a process's threads, by name. Linux only."""
    found: dict[str, set[int]] = {}
    for task in Path(f"/proc/{process}/task").iterdir():
        # The thread may end at any time.
        with suppress(FileNotFoundError, ProcessLookupError):
            name = (task / "comm").read_text().strip()
            found.setdefault(name, set()).add(os.getpriority(os.PRIO_PROCESS, int(task.name)))
    return found
