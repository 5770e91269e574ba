"""Well-behaved callers during an attack: they call at a constant rate and measure the latency of each call."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, Self

import grpc
from groupbuy.groups.v1 import campaigns_pb2, campaigns_pb2_grpc, groups_pb2, groups_pb2_grpc
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc
from groupbuy.payments.v1 import payments_pb2, payments_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.attack.site import SERVICES, Site

#: Calls of each kind in a second, and the deadline of a call.
RATE = 10
TIMEOUT_S = 10.0
#: Different orders; they are placed repeatedly, so that stored orders do not add to the memory.
ORDERS = 100


@dataclass(slots=True)
class Latencies:
    """The calls of one phase."""

    took_ms: list[float] = field(default_factory=list)
    #: Failed calls by kind and error.
    failed: dict[str, int] = field(default_factory=dict)

    def p99_ms(self) -> float:
        """The 99th percentile; 0 without calls."""
        ordered = sorted(self.took_ms)
        return ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)] if ordered else 0.0


class Others:
    """Calls until the block ends. Calls count in the phase in which they end."""

    def __init__(self, site: Site) -> None:
        self.phase = Latencies()
        self._site = site
        self._channels: list[grpc.aio.Channel] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        site = self._site

        def channel(service: str, identity: str) -> grpc.aio.Channel:
            self._channels.append(site.channel(service, identity))
            return self._channels[-1]

        numbers = count()

        def own(number: int) -> orders_pb2.PlaceOrderRequest:
            return an_order(site, number, customer="other")

        health: list[Any] = [health_pb2_grpc.HealthStub(channel(one, "monitor")) for one in SERVICES]
        groups: Any = groups_pb2_grpc.GroupServiceStub(channel("groups", "support"))
        campaigns: Any = campaigns_pb2_grpc.CampaignServiceStub(channel("groups", "merchant"))
        # Rate limits are per identity: no attack uses this one.
        orders: Any = orders_pb2_grpc.OrderServiceStub(channel("orders", "operator"))
        shop: Any = orders_pb2_grpc.OrderServiceStub(channel("orders", "shop"))
        payments: Any = payments_pb2_grpc.PaymentServiceStub(channel("payments", "finance"))

        async def probe() -> None:
            for one in health:
                await one.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)

        kinds: dict[str, Callable[[], Awaitable[Any]]] = {
            "health": probe,
            "GetGroup": lambda: groups.GetGroup(groups_pb2.GetGroupRequest(name=site.group), timeout=TIMEOUT_S),
            "GetCampaign": lambda: campaigns.GetCampaign(
                campaigns_pb2.GetCampaignRequest(name=site.campaign), timeout=TIMEOUT_S
            ),
            "ListOrders": lambda: orders.ListOrders(
                orders_pb2.ListOrdersRequest(parent=site.group, page_size=10), timeout=TIMEOUT_S
            ),
            "BatchPlaceOrders": lambda: shop.BatchPlaceOrders(
                orders_pb2.BatchPlaceOrdersRequest(requests=[own(next(numbers) % ORDERS)]), timeout=TIMEOUT_S
            ),
            "ListPayments": lambda: payments.ListPayments(
                payments_pb2.ListPaymentsRequest(parent=site.group, page_size=10), timeout=TIMEOUT_S
            ),
        }
        self._tasks = [asyncio.create_task(self._call_at_rate(name, call)) for name, call in kinds.items()]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close(grace=None)

    def next_phase(self) -> Latencies:
        """Ends the phase, begins the next and returns the ended one."""
        phase, self.phase = self.phase, Latencies()
        return phase

    async def _call_at_rate(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        """Calls at a constant rate without waiting for responses, so that a slow call delays no other."""
        in_flight: set[asyncio.Task[None]] = set()
        try:
            while True:
                task = asyncio.create_task(self._one(name, call))
                in_flight.add(task)
                task.add_done_callback(in_flight.discard)
                await asyncio.sleep(1 / RATE)
        finally:
            for task in in_flight:
                task.cancel()

    async def _one(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        began = time.perf_counter()
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            error_text = f"{name}: {error.code().name} {error.details()}"
            self.phase.failed[error_text] = self.phase.failed.get(error_text, 0) + 1
        self.phase.took_ms.append((time.perf_counter() - began) * 1_000)


def an_order(site: Site, number: int, **more: Any) -> orders_pb2.PlaceOrderRequest:
    """An order that opens a group; identical for the same customer and number."""
    fields: dict[str, Any] = {
        "customer": "attacker",
        "campaign": site.campaign,
        "quantity": 1,
        "currency": "CNY",
        "max_unit_price_minor": 9_900,
        "payment_method": "card_ok",
        "request_id": str(uuid.UUID(int=number + 1)),
        "wait": orders_pb2.WAIT_ACCEPTED,
    }
    return orders_pb2.PlaceOrderRequest(**{**fields, **more})
