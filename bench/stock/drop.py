"""A live drop on a real system: shoppers order faster than the pieces last, while processes are killed.

Groups of ten are opened in turn, and their members join one after the other. The result is read from the decision
logs, so that the measurement adds no load to the services.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any, NamedTuple
from uuid import uuid4

import grpc
from aiokafka import AIOKafkaConsumer, TopicPartition
from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest, Tier
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceStub
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.inventory.v1.decisions_pb2 import OFFER_STATE_SOLD_OUT, StockDecision
from groupbuy.inventory.v1.stocks_pb2 import CreateStockRequest, GetStockRequest, Stock
from groupbuy.inventory.v1.stocks_pb2_grpc import StockServiceStub
from groupbuy.orders.v1 import orders_pb2_grpc
from groupbuy.orders.v1.orders_pb2 import WAIT_SEAT_DECIDED

from bench.api.load import order, quantile
from chassis.rpc.client_config.channel_options import DIRECT
from groupbuy_client.errors import of_rpc
from groupbuy_testing.running import RunningStack
from shared_kernel import offer_table, topics

GROUP = 10
CALL_S = 20.0
#: Attempts of one order: while a process is restarted, calls fail.
MAX_ATTEMPTS = 60
KILLED = ("inventory", "groups")
#: Longest wait for the last group to close and for all pieces to come home.
DRAIN_S = 180.0


class Drop(NamedTuple):
    """The size of a drop."""

    pieces: int
    orders: int
    kills: int
    window_s: int
    #: Calls in flight.
    at_once: int
    #: Pieces that a group keeps for later orders: one for each seat, as the groups of a drop fill at once.
    ahead: int = GROUP - 1
    #: Orders a second; 0: as many as the system takes.
    rate: int = 0


def prepare(running: RunningStack, drop: Drop) -> tuple[str, str]:
    """Creates the stock item and its campaign, and returns their names."""
    with grpc.insecure_channel(running.endpoints["inventory"], options=DIRECT) as channel:
        create = CreateStockRequest(
            stock=Stock(display_name="drop", total=drop.pieces), stock_id="drop", request_id=str(uuid4())
        )
        stock = StockServiceStub(channel).CreateStock(create, timeout=CALL_S).name
    offer = Campaign(
        product="drop",
        currency="CNY",
        solo_price_minor=9_900,
        tiers=[Tier(members=2, unit_price_minor=8_900), Tier(members=5, unit_price_minor=7_900)],
        capacity=GROUP,
        window=Duration(seconds=drop.window_s),
        hold_window=Duration(seconds=60),
        stock=stock,
        lease_ahead=drop.ahead,
    )
    request = CreateCampaignRequest(campaign=offer, campaign_id="drop", request_id=str(uuid4()))
    return stock, CampaignServiceStub(running.groups).CreateCampaign(request, timeout=CALL_S).name


async def sell(running: RunningStack, drop: Drop, campaign: str) -> tuple[dict[str, Any], dict[int, float]]:
    """Places all orders while processes are killed. Returns what the callers saw, and when a reader of the offers had
    each version of the stock item, in milliseconds since the epoch. Each orders process is such a reader."""
    offers_ms: dict[int, float] = {}
    watching = asyncio.create_task(_watch_offers(running, offers_ms))
    async with grpc.aio.insecure_channel(running.endpoints["orders"], options=DIRECT) as channel:
        shoppers = _Shoppers(orders_pb2_grpc.OrderServiceStub(channel), campaign, drop.at_once)
        killing = asyncio.create_task(_kill(running, drop.kills, shoppers))
        began = time.monotonic()
        pending: set[asyncio.Task[None]] = set()
        for number in range(drop.orders // GROUP):
            if drop.rate:
                await asyncio.sleep(max(began + number * GROUP / drop.rate - time.monotonic(), 0))
            pending.add(asyncio.create_task(shoppers.group()))
            if len(pending) >= drop.at_once:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*pending)
        shoppers.selling = False
        took_s = time.monotonic() - began
        killed = await killing
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    seen = {
        "orders": drop.orders,
        "refused_early": shoppers.refused_early,
        "gave_up": shoppers.gave_up,
        "orders_per_s": round(drop.orders / took_s),
        "kills": killed,
    }
    return seen, offers_ms


async def _watch_offers(running: RunningStack, offers_ms: dict[int, float]) -> None:
    """Reads the offers as an orders process does, until it is cancelled."""
    table = offer_table.reader(running.kafka, "bench")
    await table.start(running.stack.partitions)
    try:
        with table.notifier.subscribe("drop") as watch:
            while True:
                await watch.changed()
                if (offer := table.find("drop")) is not None:
                    offers_ms.setdefault(offer.version, time.time() * 1_000)
    finally:
        await table.stop()


async def _kill(running: RunningStack, kills: int, shoppers: _Shoppers) -> int:
    """Kills processes until the sale ends. Returns how many."""
    chance = random.Random(1)
    for number in range(kills):
        await asyncio.sleep(chance.uniform(2, 5))
        if not shoppers.selling:
            return number
        running.stack.kill(chance.choice(KILLED))
    return kills


class _Shoppers:
    """Groups of ten: one opens the group, and the others join once it has a piece. If it is sold out, each of the
    others tries to open a group."""

    def __init__(self, stub: Any, campaign: str, at_once: int) -> None:
        self._stub = stub
        self._campaign = campaign
        self._room = asyncio.Semaphore(at_once)
        self.selling = True
        #: Orders without an answer.
        self.gave_up = 0
        #: Orders that the orders service refused, because it knew that no piece is free.
        self.refused_early = 0

    async def group(self) -> None:
        """Places the orders of one group."""
        leader = await self._place("")
        group = "" if leader is None else leader.group
        await asyncio.gather(*(self._place(group) for _ in range(GROUP - 1)))

    async def _place(self, group: str) -> Any:
        request = order(self._campaign, group, WAIT_SEAT_DECIDED)
        async with self._room:
            for _ in range(MAX_ATTEMPTS):
                try:
                    return (await self._stub.PlaceOrder(request, timeout=CALL_S)).order
                except grpc.aio.AioRpcError as error:
                    if self._is_sold_out(error):
                        return None
                    # The same request again: its ids are derived, so it is one order.
                    await asyncio.sleep(0.5)
        self.gave_up += 1
        return None

    def _is_sold_out(self, error: grpc.aio.AioRpcError) -> bool:
        if of_rpc(error).reason != "SOLD_OUT":
            return False
        self.refused_early += 1
        return True


async def wait_home(running: RunningStack, stock: str) -> Stock:
    """Waits until no group has pieces or waits for some."""
    until = time.monotonic() + DRAIN_S
    async with grpc.aio.insecure_channel(running.endpoints["inventory"], options=DIRECT) as channel:
        stub: Any = StockServiceStub(channel)
        while True:
            try:
                found: Stock = await stub.GetStock(GetStockRequest(name=stock), timeout=CALL_S)
                if not found.leases and not found.waiting:
                    return found
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.5)
            if time.monotonic() > until:
                raise SystemExit(f"pieces did not come home: {found}")
            await asyncio.sleep(0.5)


async def read_logs(running: RunningStack, drop: Drop, offers_ms: dict[int, float]) -> dict[str, Any]:
    """The result of the drop by the decision logs. `offers_ms`: see `sell`."""
    books = _Books(drop.pieces)
    consumer = AIOKafkaConsumer(bootstrap_servers=running.kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        for topic, fold in ((topics.STOCK_LOG.name, books.stock), (topics.GROUP_LOG.name, books.group)):
            tps = [TopicPartition(topic, partition) for partition in range(running.stack.partitions)]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            ends = await consumer.end_offsets(tps)
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        fold(record)
    finally:
        await consumer.stop()
    return books.figures(offers_ms)


class _Books:
    """A fold of the logs that shares no code with the domains."""

    def __init__(self, pieces: int) -> None:
        self._pieces = pieces
        self._versions: dict[str, int] = {}
        self._out: Counter[str] = Counter()
        self.sold = self.oversold = self.leases = 0
        self._charged = 0
        self._quantity: dict[str, int] = {}
        self._waiting: dict[str, int] = {}
        self._waited_ms: list[float] = []
        self._seated = 0
        #: When the stock item's answer that there are too few pieces was in its log, by group and version; and how long
        #: after it the group's decision was in its own.
        self._denied_ms: dict[tuple[str, int], int] = {}
        self._known_ms: list[float] = []
        #: When a version of the stock item that is sold out was in its log.
        self._sold_out_ms: dict[int, int] = {}

    def _is_new(self, key: str, version: int) -> bool:
        if version <= self._versions.get(key, 0):
            return False
        self._versions[key] = version
        return True

    def stock(self, record: Any) -> None:
        """Folds a decision of a stock item."""
        decision = StockDecision.FromString(record.value)
        if not self._is_new(f"stock {decision.stock}", decision.version):
            return
        for event in decision.events:
            body = event.WhichOneof("body")
            if body == "leased":
                self.leases += 1
                self._out[event.leased.group] += event.leased.units
            elif body == "returned":
                self._out[event.returned.group] -= event.returned.units
            elif body == "sold":
                self._out[event.sold.group] -= event.sold.units
                self.sold += event.sold.units
            elif body == "out_of_stock":
                self._denied_ms[event.out_of_stock.group, decision.version] = record.timestamp
            elif body == "offer_changed" and event.offer_changed.state == OFFER_STATE_SOLD_OUT:
                self._sold_out_ms[decision.version] = record.timestamp
        out = sum(self._out.values())
        self.oversold = max(self.oversold, out + self.sold - self._pieces)

    def group(self, record: Any) -> None:
        """Folds a decision of a group."""
        decision = GroupDecision.FromString(record.value)
        if not self._is_new(decision.group, decision.version):
            return
        for event in decision.events:
            body = event.WhichOneof("body")
            if body == "seat_waitlisted":
                self._waiting[event.seat_waitlisted.order] = decision.time_ms
            elif body == "seat_reserved":
                reserved = event.seat_reserved
                self._seated += 1
                self._quantity[reserved.order] = reserved.quantity
                waited = self._waiting.pop(reserved.order, None)
                if waited is not None:
                    self._waited_ms.append(decision.time_ms - waited)
            elif body == "member_settled":
                self._charged += self._quantity[event.member_settled.order]
            elif body == "units_denied":
                denied_ms = self._denied_ms[decision.group, event.units_denied.stock_version]
                self._known_ms.append(record.timestamp - denied_ms)

    def figures(self, offers_ms: dict[int, float]) -> dict[str, Any]:
        """The figures of the drop. `offers_ms`: see `sell`."""
        waited, denied = sorted(self._waited_ms), sorted(self._known_ms)
        known = sorted(
            offers_ms[version] - at_ms for version, at_ms in self._sold_out_ms.items() if version in offers_ms
        )
        return {
            "sold": self.sold,
            "charged": self._charged,
            "oversold": max(self.oversold, self._charged - self._pieces, 0),
            "leases": self.leases,
            "seats": self._seated,
            "waiting_share": round(len(waited) / max(self._seated, 1), 3),
            "seat_p99_ms": round(quantile(waited, 0.99)) if waited else 0,
            "seat_p50_ms": round(quantile(waited, 0.5)) if waited else 0,
            "sold_out_known_p99_ms": round(quantile(known, 0.99)) if known else 0,
            "sold_out_known": len(known),
            "denied_known_p99_ms": round(quantile(denied, 0.99)) if denied else 0,
        }
