"""The load of bench-lastseat, in a process of its own: takes its job as JSON, prints what it found as its last line."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any

import grpc
from groupbuy.orders.v1 import orders_pb2_grpc
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_STATE_REFUSED,
    ORDER_STATE_SETTLED,
    WAIT_SEAT_DECIDED,
    GetOrderRequest,
    PlaceOrderResponse,
)

from bench.api.h2 import Connection, connect, headers, message
from bench.api.load import CONNECTIONS, PLACE, order, quantile

TIMEOUT_S = 10
#: Of a gRPC message's prefix.
PREFIX_BYTES = 5


class Race:
    """One round: so many join at once, and each notes when it was answered."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._block = headers(PLACE, job["endpoint"], TIMEOUT_S)
        self._connections: list[Connection] = []
        self._ended: list[float] = []

    async def connect(self) -> None:
        """Opens the connections."""
        self._connections = [await connect(self._job["endpoint"], self._hear) for _ in range(CONNECTIONS)]

    def _hear(self, stream: int, messages: int, ended: bool, now: float) -> None:
        if ended:
            self._ended.append(now)

    async def run(self, group: str) -> tuple[float, list[PlaceOrderResponse]]:
        """Seconds until the last answer, and the answers. A call that failed has none."""
        joins = self._job["joins"]
        made = [order(self._job["campaign"], group, WAIT_SEAT_DECIDED) for _ in range(joins)]
        bodies = [message(one.SerializeToString()) for one in made]
        self._ended.clear()
        for one in self._connections:
            one.kept = {}
        began = time.monotonic()
        for number, body in enumerate(bodies):
            self._connections[number % CONNECTIONS].call(self._block, body)
        async with asyncio.timeout(TIMEOUT_S + 5):
            while len(self._ended) < joins:
                await asyncio.sleep(0.002)
        took_s = max(self._ended) - began
        kept = [data for one in self._connections for data in (one.kept or {}).values()]
        return took_s, [PlaceOrderResponse.FromString(data[PREFIX_BYTES:]) for data in kept]

    def close(self) -> None:
        """Closes the connections."""
        for one in self._connections:
            one.close()


async def races(job: dict[str, Any]) -> dict[str, Any]:
    """Opens a group, lets all race for its last seat; as often as told."""
    race = Race(job)
    await race.connect()
    took: list[float] = []
    seated: list[str] = []
    answered = one_winner = 0
    async with grpc.aio.insecure_channel(job["endpoint"]) as channel:
        stub: Any = orders_pb2_grpc.OrderServiceStub(channel)
        for number in range(job["rounds"]):
            leader = (await stub.PlaceOrder(order(job["campaign"], wait=WAIT_SEAT_DECIDED), timeout=TIMEOUT_S)).order
            seconds, answers = await race.run(leader.group)
            winners = [one.order.name for one in answers if one.order.state != ORDER_STATE_REFUSED]
            took.append(seconds)
            answered += len(answers)
            one_winner += len(winners) == 1
            seated += [name.rpartition("/")[2] for name in (leader.name, *winners)]
            if number % 20 == 0:
                print(f"round {number}: the last answer after {seconds * 1e3:.0f} ms", file=sys.stderr, flush=True)
        # Once the last group is paid for, a loser's hold would stand in the provider's books as well.
        await _settled(stub, leader.name)
    race.close()
    took.sort()
    return {
        "rounds": job["rounds"],
        "one_winner_rounds": one_winner,
        "answered": answered,
        "p50_ms": round(quantile(took, 0.5) * 1e3, 1),
        "p99_ms": round(quantile(took, 0.99) * 1e3, 1),
        "seated": seated,
    }


async def _settled(stub: Any, name: str) -> None:
    async with asyncio.timeout(60):
        while (await stub.GetOrder(GetOrderRequest(name=name), timeout=TIMEOUT_S)).state != ORDER_STATE_SETTLED:
            await asyncio.sleep(0.1)


def main() -> None:
    """Does the job."""
    job = json.loads(sys.argv[1])
    gc.freeze()
    print(json.dumps(asyncio.run(races(job))))


if __name__ == "__main__":
    main()
