"""The traffic on a Compose stack: an evening with a service killed in it, and a load near the capacity."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from groupbuy.orders.v1.orders_pb2 import PlaceOrderRequest, PlaceOrdersRequest
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceStub

from bench.api.load import order
from bench.settle.load import GROUP, Logs
from chassis.rpc.client_config.channel_options import DIRECT
from groupbuy_client import Client
from groupbuy_client.transport import TRUST_DOMAIN, expecting, mtls
from services.orders.domain.ids import group_id
from tests import evening
from tests.compose.stack import ComposeStack

VICTIM = "groups"
#: The load of `throughput`: its orders, and those that may be unsettled at the same time. A closed loop goes as fast as
#: the system, so a slow machine loses no order.
LOAD_ORDERS, MAX_UNSETTLED = 4_000, 1_500
#: Orders of one message.
MAX_MESSAGE = 200
#: Seconds for the load, and of the window of its groups, which all fill up.
LOAD_S, WINDOW_S = 180.0, 600
PARTITIONS = 8


def play(stack: ComposeStack, orders: int, seed: int, *, kill: bool, callers: Path | None = None) -> int:
    """Plays an evening and returns the number of orders. `callers` has the certificates of a secured stack.

    Raises EveningFailed if a call fails that should not.
    """
    return asyncio.run(_play(stack, orders, seed, kill=kill, callers=callers))


async def _play(stack: ComposeStack, orders: int, seed: int, *, kill: bool, callers: Path | None) -> int:
    async with (
        _channel(stack, "orders", "shop", callers) as shop,
        _channel(stack, "groups", "merchant", callers) as merchant,
    ):
        played = await evening.play(shop, merchant, orders, seed, (lambda: stack.kill(VICTIM)) if kill else None)
    return played.orders


def _channel(stack: ComposeStack, service: str, caller: str, callers: Path | None) -> grpc.aio.Channel:
    target = stack.address(service)
    if callers is None:
        return grpc.aio.insecure_channel(target)
    files = callers / caller
    credentials = mtls(files / "certificate.pem", files / "key.pem", files / "ca.pem")
    return grpc.aio.secure_channel(target, credentials, options=expecting(service, TRUST_DOMAIN))


def throughput(stack: ComposeStack, orders: int) -> dict[str, Any]:
    """Settled orders per second of a closed-loop load of about so many orders, which all have to settle."""
    with Client(groups=stack.address("groups")) as shop:
        campaign = shop.create_campaign(
            product="mug",
            currency="CNY",
            solo_price_minor=9_900,
            capacity=GROUP,
            tiers=[(2, 8_900), (5, 7_900), (10, 6_900)],
            window=timedelta(seconds=WINDOW_S),
            hold_window=timedelta(seconds=WINDOW_S),
        )

    async def measured() -> dict[str, Any]:
        # The reader of the logs has to be made on the loop.
        return await _Load(stack, campaign.name, -(-orders // GROUP) * GROUP).run()

    return asyncio.run(measured())


class _Load:
    """Groups of ten on one stream: a leader, and its friends once the leader's order is accepted."""

    def __init__(self, stack: ComposeStack, campaign: str, orders: int) -> None:
        self._orders = orders
        self._logs = Logs(stack.address("kafka"), PARTITIONS)
        self._target = stack.address("orders")
        self._campaign = campaign
        #: All requests by their index on the stream.
        self._sent: list[PlaceOrderRequest] = []
        self._due: deque[PlaceOrderRequest] = deque()
        self._opened = 0
        self._accepted = 0
        self._refused = 0

    @property
    def _settled(self) -> int:
        return sum(self._logs.settled.values())

    async def run(self) -> dict[str, Any]:
        """Returns the figures. Raises EveningFailed if not every order settles within LOAD_S."""
        await self._logs.start(payments=False)
        reading = asyncio.create_task(self._logs.run())
        began = time.monotonic()
        try:
            async with asyncio.timeout(LOAD_S):
                await self._place()
                await self._wait_settled()
        except TimeoutError as error:
            raise evening.EveningFailed(
                f"{self._settled} of {self._orders} orders settled within {LOAD_S:.0f} s, {self._accepted} accepted, "
                f"{self._refused} refused, ended otherwise: {dict(self._logs.ended)}"
            ) from error
        finally:
            seconds = time.monotonic() - began
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self._logs.stop()
        return {"settled": self._settled, "per_s": round(self._settled / seconds, 1), "refused": self._refused}

    async def _place(self) -> None:
        async with grpc.aio.insecure_channel(self._target, options=DIRECT) as channel:
            stub: Any = OrderServiceStub(channel)
            async for response in stub.PlaceOrders(self._requests()):
                for result in response.results:
                    request = self._sent[result.index]
                    if result.HasField("status"):
                        # Under overload. A shop places the order again with the same request id.
                        self._refused += 1
                        self._due.append(request)
                        continue
                    self._accepted += 1
                    if not request.group:
                        group = f"groups/{group_id(request.customer, request.request_id)}"
                        self._due.extend(order(self._campaign, group) for _ in range(GROUP - 1))

    async def _requests(self) -> AsyncIterator[PlaceOrdersRequest]:
        while self._accepted < self._orders:
            some = [self._due.popleft() for _ in range(min(len(self._due), MAX_MESSAGE))]
            if not some and self._opened < self._orders and self._opened - self._settled < MAX_UNSETTLED:
                self._opened += GROUP
                some = [order(self._campaign)]
            if some:
                self._sent.extend(some)
                yield PlaceOrdersRequest(requests=some)
            else:
                await asyncio.sleep(0.01)

    async def _wait_settled(self) -> None:
        while self._settled < self._orders:  # noqa: ASYNC110 - the reader of the logs knows no events
            await asyncio.sleep(0.05)
