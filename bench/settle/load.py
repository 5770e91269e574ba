"""The load generator of bench-settle, a process of its own: orders at a fixed rate, whatever their results.

Groups of ten: a leader, and nine friends that join one after the other. Settlements are read from the decision logs, so
that the measurement adds no load to the services. Takes its job as JSON, and prints its results as JSON in the last
line.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import grpc
from aiokafka import AIOKafkaConsumer, TopicPartition
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1 import orders_pb2_grpc
from groupbuy.orders.v1.orders_pb2 import (
    WAIT_SEAT_DECIDED,
    PlaceOrderRequest,
    PlaceOrdersRequest,
)
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from bench.api.h2 import Connection, connect, headers, message
from bench.api.load import CONNECTIONS, PLACE, order, quantile
from chassis.rpc.client_config.channel_options import DIRECT
from services.orders.domain.ids import group_id

GROUP = 10
#: Seconds from the leader to the first friend, and from each friend to the next.
FIRST_FRIEND_S = 0.5
FRIENDS_APART_S = 0.1
#: Seconds of orders that one message places.
TICK_S = 0.05
#: Orders per second whose time to a seat is measured.
PROBES_PER_S = 10
#: Longest wait for settlements after the last order.
DRAIN_S = 60.0
#: Orders in flight while groups are opened to fill the state.
MAX_BEHIND = 5_000
GROUP_LOG, PAYMENT_LOG = "groups.group.v1", "payments.payment.v1"


class Shoppers:
    """The schedule of orders."""

    def __init__(self, campaign: str, rate: float) -> None:
        self._campaign = campaign
        self._groups_per_s = rate / GROUP
        self._opened = 0
        self._due: dict[int, list[str]] = defaultdict(list)
        self._tick = 0

    def until(self, now_s: float) -> list[PlaceOrderRequest]:
        """Orders due by a time, in seconds since the start, that were not returned yet. Leaders come first."""
        found = []
        while self._opened < now_s * self._groups_per_s:
            leader = order(self._campaign)
            group = f"groups/{group_id(leader.customer, leader.request_id)}"
            opened_s = self._opened / self._groups_per_s
            for friend in range(GROUP - 1):
                self._due[int((opened_s + FIRST_FRIEND_S + friend * FRIENDS_APART_S) / TICK_S)].append(group)
            self._opened += 1
            found.append(leader)
        while (self._tick + 1) * TICK_S <= now_s:
            found += [order(self._campaign, group) for group in self._due.pop(self._tick, ())]
            self._tick += 1
        return found


class Logs:
    """Reads the decision logs: when orders settle, and how long a complete group takes to be charged."""

    def __init__(self, kafka: str, partitions: int) -> None:
        self._tps = [TopicPartition(topic, p) for topic in (GROUP_LOG, PAYMENT_LOG) for p in range(partitions)]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka, enable_auto_commit=False, fetch_min_bytes=65_536, fetch_max_wait_ms=100
        )
        #: Settled orders by second.
        self.settled: Counter[int] = Counter()
        self.ended: Counter[str] = Counter()
        self.confirmed = 0
        self.charged_s: list[tuple[float, float]] = []
        self._last_payment_ms: dict[str, int] = {}
        self._captured: Counter[str] = Counter()

    async def start(self, *, payments: bool) -> None:
        """Starts at the current end."""
        tps = self._tps if payments else [tp for tp in self._tps if tp.topic == GROUP_LOG]
        await self._consumer.start()
        self._consumer.assign(tps)
        await self._consumer.seek_to_end(*tps)
        for tp in tps:
            await self._consumer.position(tp)

    async def run(self) -> None:
        """Reads until cancelled."""
        while True:
            fetched = await self._consumer.getmany(timeout_ms=200, max_records=20_000)
            for tp, records in fetched.items():
                read = self._read_group if tp.topic == GROUP_LOG else self._read_payment
                for record in records:
                    read(record)

    def _read_group(self, record: Any) -> None:
        for event in GroupDecision.FromString(record.value).events:
            kind = event.WhichOneof("body")
            if kind == "member_settled":
                self.settled[record.timestamp // 1000] += 1
            elif kind == "member_confirmed":
                self.confirmed += 1
            elif kind in {"seat_refused", "member_declined", "member_released", "seat_released", "faulted"}:
                self.ended[kind] += 1

    def _read_payment(self, record: Any) -> None:
        for event in PaymentDecision.FromString(record.value).events:
            kind = event.WhichOneof("body")
            if kind == "hold_authorised":
                self._last_payment_ms[event_group(record)] = record.timestamp
            elif kind == "captured":
                group = event_group(record)
                self._captured[group] += 1
                if self._captured[group] == GROUP and group in self._last_payment_ms:
                    took_s = (record.timestamp - self._last_payment_ms.pop(group)) / 1e3
                    self.charged_s.append((record.timestamp / 1e3, took_s))

    async def stop(self) -> None:
        """Disconnects."""
        await self._consumer.stop()


def event_group(record: Any) -> str:
    """The group of a decision."""
    return bytes(record.key).decode()


class Placed:
    """Responses to the placed orders: (wall time, seconds until the response)."""

    def __init__(self) -> None:
        self.accepted: list[tuple[float, float]] = []
        self.failed = 0
        self.sent = 0


async def streamed(job: dict[str, Any], placed: Placed) -> None:
    """Places all orders on one stream, those that are due at the same time in one message."""
    shoppers = Shoppers(job["campaign"], job["rate"])
    sent_at: dict[int, float] = {}

    async def requests() -> AsyncIterator[PlaceOrdersRequest]:
        began = time.monotonic()
        while (now := time.monotonic() - began) < job["seconds"]:
            due = shoppers.until(now)
            for at in range(0, len(due), 500):
                some = due[at : at + 500]
                sent = time.monotonic()
                sent_at.update((placed.sent + number, sent) for number in range(len(some)))
                placed.sent += len(some)
                yield PlaceOrdersRequest(requests=some)
            await asyncio.sleep(max(0.0, TICK_S - (time.monotonic() - began - now)))

    async with grpc.aio.insecure_channel(job["orders"], options=DIRECT) as channel:
        stub: Any = orders_pb2_grpc.OrderServiceStub(channel)
        async for response in stub.PlaceOrders(requests()):
            now, wall = time.monotonic(), time.time()
            for result in response.results:
                placed.failed += result.HasField("status")
                placed.accepted.append((wall, now - sent_at.pop(result.index)))


async def unary(job: dict[str, Any], placed: Placed) -> None:
    """Places each order with a unary call."""
    shoppers = Shoppers(job["campaign"], job["rate"])
    block = headers(PLACE, job["orders"], 10)
    connections: list[Connection] = []
    sent_at: list[dict[int, float]] = [{} for _ in range(CONNECTIONS)]

    def listener(index: int) -> Any:
        def on_message(stream: int, messages: int, ended: bool, now: float) -> None:
            if ended:
                placed.failed += not messages
                placed.accepted.append((time.time(), now - sent_at[index].pop(stream)))

        return on_message

    for index in range(CONNECTIONS):
        connections.append(await connect(job["orders"], listener(index)))
    began = time.monotonic()
    while (now := time.monotonic() - began) < job["seconds"]:
        for one in shoppers.until(now):
            index = placed.sent % CONNECTIONS
            placed.sent += 1
            begun = time.monotonic()
            sent_at[index][connections[index].call(block, message(one.SerializeToString()))] = begun
        await asyncio.sleep(0.005)
    deadline = time.monotonic() + 15
    while any(sent_at) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    for connection in connections:
        connection.close()


async def probes(job: dict[str, Any], seats: list[tuple[float, float]]) -> None:
    """Places a few leaders' orders per second that wait for their seat, and measures how long a shopper waits."""
    async with grpc.aio.insecure_channel(job["orders"], options=DIRECT) as channel:
        stub: Any = orders_pb2_grpc.OrderServiceStub(channel)

        async def probe() -> None:
            began = time.monotonic()
            await stub.PlaceOrder(order(job["campaign"], wait=WAIT_SEAT_DECIDED), timeout=30)
            seats.append((time.time(), time.monotonic() - began))

        async with asyncio.TaskGroup() as tasks:
            until = time.monotonic() + job["seconds"]
            while time.monotonic() < until:
                tasks.create_task(probe())
                await asyncio.sleep(1 / PROBES_PER_S)


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Places orders at the rate, then waits until no more orders settle."""
    logs, placed, seats = Logs(job["kafka"], job["partitions"]), Placed(), list[tuple[float, float]]()
    await logs.start(payments=job["latencies"])
    reading = asyncio.create_task(logs.run())
    began = time.time()
    load = streamed if job["kind"] == "stream" else unary
    await asyncio.gather(load(job, placed), *([probes(job, seats)] if job["latencies"] else []))
    over = time.time()
    drained = await _drained(logs, placed, over)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await logs.stop()
    since, until = began + job["warm_s"], over
    seconds = [int(since) + 1 + n for n in range(int(until - since) - 1)]
    accepted = _between(placed.accepted, since, until)
    return {
        "began": began,
        "sent": placed.sent,
        "failed": placed.failed,
        "settled": sum(logs.settled.values()),
        "ended_otherwise": dict(logs.ended),
        "per_second": {str(second - int(began)): logs.settled[second] for second in range(int(began), int(over) + 1)},
        "steady": [logs.settled[second] for second in seconds],
        "drain_s": round(drained, 1),
        "accepted_ms": _quantiles(accepted),
        "seat_ms": _quantiles(_between(seats, since, until)),
        "charged_ms": _quantiles(_between(logs.charged_s, since, until)),
        "latency_per_second": _by_second(placed.accepted, began),
    }


async def fill(job: dict[str, Any]) -> dict[str, Any]:
    """Opens groups that stay open, each with one confirmed seat, at the rate at which the system confirms them."""
    logs, groups, sent = Logs(job["kafka"], job["partitions"]), job["groups"], 0
    await logs.start(payments=False)
    reading = asyncio.create_task(logs.run())

    async def requests() -> AsyncIterator[PlaceOrdersRequest]:
        nonlocal sent
        while sent < groups:
            while sent - logs.confirmed > MAX_BEHIND:
                await asyncio.sleep(0.02)
            some = [order(job["campaign"]) for _ in range(min(500, groups - sent))]
            sent += len(some)
            yield PlaceOrdersRequest(requests=some)

    began = time.monotonic()
    async with grpc.aio.insecure_channel(job["orders"], options=DIRECT) as channel:
        stub: Any = orders_pb2_grpc.OrderServiceStub(channel)
        opened, reported = 0, 0
        async for response in stub.PlaceOrders(requests()):
            opened += len(response.results)
            if opened >= reported + 100_000:
                reported = opened
                print(f"{opened:,} groups after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            if failed := [result.status for result in response.results if result.HasField("status")]:
                raise SystemExit(f"a group could not be opened: {failed[0].message}")
    while logs.confirmed < groups:
        await asyncio.sleep(0.05)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await logs.stop()
    return {"groups": groups, "seconds": round(time.monotonic() - began, 1)}


async def _drained(logs: Logs, placed: Placed, over: float) -> float:
    """Seconds from the last order to the last settlement, at most DRAIN_S."""
    known, since = -1, time.time()
    while time.time() < over + DRAIN_S and time.time() < since + 5:
        settled = sum(logs.settled.values())
        if settled != known:
            known, since = settled, time.time()
        await asyncio.sleep(0.2)
    return since - over


def _between(found: list[tuple[float, float]], since: float, until: float) -> list[float]:
    return sorted(value for at, value in found if since <= at < until)


def _quantiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {name: round(quantile(values, share) * 1e3, 1) for name, share in (("p50", 0.5), ("p99", 0.99))}


def _by_second(found: list[tuple[float, float]], began: float) -> dict[str, float]:
    by: dict[int, list[float]] = defaultdict(list)
    for at, value in found:
        by[int(at - began)].append(value)
    return {str(second): round(quantile(sorted(values), 0.99) * 1e3, 1) for second, values in sorted(by.items())}


def main() -> None:
    """Runs one job."""
    job = json.loads(sys.argv[1])
    gc.freeze()
    print(json.dumps(asyncio.run((fill if job["kind"] == "fill" else run)(job))))


if __name__ == "__main__":
    main()
