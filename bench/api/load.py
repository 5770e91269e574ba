"""The load generator of bench-api, a process of its own: takes a job as JSON, prints its results in the last line.

Jobs: `closed` keeps a number of calls in flight; `open` starts calls at a fixed rate; `batch` and `stream` place orders
by the hundred; `watch` watches one group many times and times each change.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import grpc
from groupbuy.groups.v1.groups_pb2 import WatchGroupRequest
from groupbuy.orders.v1 import orders_pb2_grpc
from groupbuy.orders.v1.orders_pb2 import (
    WAIT_ACCEPTED,
    WAIT_SEAT_DECIDED,
    BatchPlaceOrdersRequest,
    PlaceOrderRequest,
    PlaceOrdersRequest,
)

from bench.api.h2 import Connection, connect, headers, message
from chassis.rpc.client_config.channel_options import DIRECT
from groupbuy_client.errors import of_status

PLACE = "/groupbuy.orders.v1.OrderService/PlaceOrder"
WATCH = "/groupbuy.groups.v1.GroupService/WatchGroup"
CONNECTIONS = 8
#: Orders in one message of a batch or stream.
BATCH = 500
#: Least seconds until a rejected watcher retries.
RETRY_S = 0.5


def order(campaign: str, group: str = "", wait: int = WAIT_ACCEPTED) -> PlaceOrderRequest:
    """An order of a new customer; without a group it opens a new one."""
    return PlaceOrderRequest(
        customer=uuid4().hex,
        campaign=campaign,
        group=group,
        quantity=1,
        currency="CNY",
        max_unit_price_minor=8900,
        payment_method="card_ok",
        request_id=str(uuid4()),
        wait=wait,  # type: ignore[arg-type] # an enum's value
    )


def quantile(values: list[float], share: float) -> float:
    """The quantile of sorted values."""
    return values[min(int(len(values) * share), len(values) - 1)] if values else float("nan")


class Calls:
    """Unary calls on a few connections, with their latencies."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._block = headers(PLACE, job["endpoint"], job.get("timeout_s", 10))
        self._connections: list[Connection] = []
        self._began: list[dict[int, float]] = []
        self._bodies: Iterator[bytes] = iter(())
        self.latencies: list[float] = []
        self.done: list[float] = []
        self.refused = 0
        self.begun = 0
        self.more = True

    async def connect(self) -> None:
        """Opens the connections and encodes the requests, so that neither is measured."""
        self._bodies = iter(
            [message(order(self._job["campaign"]).SerializeToString()) for _ in range(self._job["most"])]
        )
        for index in range(CONNECTIONS):
            self._began.append({})
            self._connections.append(await connect(self._job["endpoint"], self._listener(index)))

    @property
    def in_flight(self) -> int:
        """Calls without a response."""
        return sum(len(began) for began in self._began)

    def begin(self) -> None:
        """Starts one more call, if an encoded request is left."""
        body = next(self._bodies, None)
        if body is None:
            self.more = False
            return
        index = self.begun % CONNECTIONS
        self.begun += 1
        now = time.monotonic()
        self._began[index][self._connections[index].call(self._block, body)] = now

    def _listener(self, index: int) -> Any:
        def on_message(stream: int, messages: int, ended: bool, now: float) -> None:
            if not ended:
                return
            began = self._began[index].pop(stream)
            if messages:
                self.latencies.append(now - began)
                self.done.append(now)
            else:
                self.refused += 1
            self.ended()

        return on_message

    def ended(self) -> None:
        """Hook: called at the end of each call."""

    def close(self) -> None:
        """Closes the connections."""
        for one in self._connections:
            one.close()

    def found(self, since: float, until: float) -> dict[str, float]:
        """Figures of the responses in a span of time."""
        times = sorted(self.latencies)
        ok = sum(since <= at < until for at in self.done)
        return {
            "per_s": ok / (until - since),
            "p50_ms": quantile(times, 0.5) * 1e3,
            "p99_ms": quantile(times, 0.99) * 1e3,
            "begun_per_s": self.begun / (until - since),
            "refused": self.refused,
            "unanswered": self.in_flight,
        }


async def closed(job: dict[str, Any]) -> dict[str, float]:
    """Closed loop: keeps `at_once` calls in flight."""
    calls = Calls(job)
    await calls.connect()
    calls.ended = lambda: calls.begin() if time.monotonic() < until else None  # type: ignore[method-assign]
    since = time.monotonic() + job["warm_s"]
    until = since + job["seconds"]
    for _ in range(job["at_once"]):
        calls.begin()
    while time.monotonic() < until:
        await asyncio.sleep(0.05)
    found = calls.found(since, until)
    calls.close()
    return found


async def opened(job: dict[str, Any]) -> dict[str, float]:
    """Open loop: starts `rate` calls per second, evenly, whatever their results."""
    calls = Calls(job)
    await calls.connect()
    rate = job["rate"]
    since = time.monotonic()
    until = since + job["seconds"]
    while (now := time.monotonic()) < until and calls.more:
        while calls.begun < (now - since) * rate and calls.more:
            calls.begin()
        await asyncio.sleep(0.001)
    over = time.monotonic()
    with suppress(TimeoutError):
        await _until(lambda: not calls.in_flight, job.get("timeout_s", 10))
    found = calls.found(since, over)
    calls.close()
    return found


async def batched(job: dict[str, Any]) -> dict[str, float]:
    """Places orders in batches, or on one stream per channel. The requests are created beforehand."""
    streamed = job["job"] == "stream"
    kind = PlaceOrdersRequest if streamed else BatchPlaceOrdersRequest
    made = [kind(requests=[order(job["campaign"]) for _ in range(BATCH)]) for _ in range(job["most"] // BATCH)]
    bodies = iter(made)
    answered: list[tuple[float, int]] = []
    failures: Counter[str] = Counter()

    def count(results: Any) -> None:
        bad = [repr(of_status(result.status)) for result in results if result.HasField("status")]
        failures.update(bad)
        answered.append((time.monotonic(), len(results) - len(bad)))

    async def unary(stub: Any) -> None:
        for body in bodies:
            count((await stub.BatchPlaceOrders(body, timeout=30)).results)

    async def stream(stub: Any) -> None:
        async def requests() -> AsyncIterator[Any]:
            for body in bodies:
                yield body

        async for response in stub.PlaceOrders(requests()):
            count(response.results)

    channels = [
        grpc.aio.insecure_channel(job["endpoint"], options=[("bench.n", n), *DIRECT]) for n in range(job["at_once"])
    ]
    stubs: list[Any] = [orders_pb2_grpc.OrderServiceStub(channel) for channel in channels]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    began = time.monotonic()
    await asyncio.gather(*(stream(stub) if streamed else unary(stub) for stub in stubs))
    for channel in channels:
        await channel.close(grace=None)
    # Without the first second, the warm-up, and the last half, in which the channels run out of requests.
    last = max(at for at, _ in answered)
    since, until = began + 1, max(last - 0.5, began + 1.5)
    placed = sum(count for at, count in answered if since <= at < until)
    for why, times in failures.most_common(3):
        print(f"{times:,} orders failed: {why}", file=sys.stderr)
    return {
        "per_s": placed / (until - since),
        "failed": failures.total(),
        "orders": sum(count for _, count in answered),
    }


async def watch(job: dict[str, Any]) -> dict[str, float]:
    """Watches a group many times, changes it, and measures the time until each watcher receives the change.

    All watchers come at once, as after a restart. A rejected one retries, as every client does.
    """
    watchers, rounds = job["watchers"], job["rounds"]
    received: list[float] = []
    block = headers(WATCH, job["groups"], None)
    body = message(WatchGroupRequest(name=job["group"]).SerializeToString())
    ended = retries = 0
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []

    def listening(index: int) -> Callable[[int, int, bool, float], None]:
        def listen(stream: int, messages: int, is_end: bool, now: float) -> None:
            nonlocal ended, retries
            if is_end and not messages:
                retries += 1
                loop.call_later(RETRY_S * random.uniform(1, 2), connections[index].call, block, body)
            else:
                ended += is_end
                received.append(now)

        return listen

    for number in range(CONNECTIONS):
        connections.append(await connect(job["groups"], listening(number)))
    for number in range(watchers):
        connections[number % CONNECTIONS].call(block, body)
        if number % 200 == 0:
            await asyncio.sleep(0.01)
    await _until(lambda: len(received) >= watchers)
    delays: list[float] = []
    async with grpc.aio.insecure_channel(job["orders"], options=DIRECT) as channel:
        stub: Any = orders_pb2_grpc.OrderServiceStub(channel)
        for _ in range(rounds):
            received.clear()
            began = time.monotonic()
            await stub.PlaceOrder(order(job["campaign"], job["group"], WAIT_SEAT_DECIDED), timeout=10)
            # One order makes two changes, the seat and the payment; the first one that a watcher receives counts.
            await _until(lambda: len(received) >= watchers)
            delays += sorted(at - began for at in received)[:watchers]
            # The second change must not count for the next round.
            await _quiet(received)
    for one in connections:
        one.close()
    delays.sort()
    return {
        "p50_ms": quantile(delays, 0.5) * 1e3,
        "p99_ms": quantile(delays, 0.99) * 1e3,
        "ended": ended,
        "came_again": retries,
    }


async def _until(condition: Callable[[], bool], within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


async def _quiet(received: list[float]) -> None:
    seen = -1
    while seen != len(received):
        seen = len(received)
        await asyncio.sleep(0.5)


JOBS = {"closed": closed, "open": opened, "batch": batched, "stream": batched, "watch": watch}


def main() -> None:
    """Runs one job."""
    job = json.loads(sys.argv[1])
    gc.freeze()
    print(json.dumps(asyncio.run(JOBS[job["job"]](job))))


if __name__ == "__main__":
    main()
