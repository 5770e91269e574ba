"""The load generator of bench-lastseat, a process of its own: a job as JSON in, results as JSON in the last line."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any

import grpc
import stamina
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
from chassis.rpc.client_config.channel_options import DIRECT

TIMEOUT_S = 10
#: Size of the prefix of a gRPC message.
PREFIX_BYTES = 5


class Race:
    """One round: all shoppers join at once, and the time of each response is recorded."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._block = headers(PLACE, job["endpoint"], TIMEOUT_S)
        self._connections: list[Connection] = []
        self._ended: list[float] = []

    async def connect(self) -> None:
        """Opens the connections."""
        self._connections = [await connect(self._job["endpoint"], self._on_message) for _ in range(CONNECTIONS)]

    def _on_message(self, stream: int, messages: int, ended: bool, now: float) -> None:
        if ended:
            self._ended.append(now)

    async def run(self, group: str) -> tuple[float, list[PlaceOrderResponse]]:
        """Seconds until the last response, and the responses. A failed call has none."""
        joins = self._job["joins"]
        made = [order(self._job["campaign"], group, WAIT_SEAT_DECIDED) for _ in range(joins)]
        bodies = [message(one.SerializeToString()) for one in made]
        self._ended.clear()
        for one in self._connections:
            one.stored = {}
        began = time.monotonic()
        for number, body in enumerate(bodies):
            self._connections[number % CONNECTIONS].call(self._block, body)
        async with asyncio.timeout(TIMEOUT_S + 5):
            while len(self._ended) < joins:
                await asyncio.sleep(0.002)
        took_s = max(self._ended) - began
        messages = [data for one in self._connections for data in (one.stored or {}).values()]
        return took_s, [PlaceOrderResponse.FromString(data[PREFIX_BYTES:]) for data in messages]

    def close(self) -> None:
        """Closes the connections."""
        for one in self._connections:
            one.close()


def _is_at_capacity(error: Exception) -> bool:
    return isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@stamina.retry(on=_is_at_capacity, timeout=TIMEOUT_S)
async def _place(stub: Any, request: Any) -> Any:
    """Places the order of a leader. The load shedder may still refuse calls after the round before."""
    return await stub.PlaceOrder(request, timeout=TIMEOUT_S)


async def races(job: dict[str, Any]) -> dict[str, Any]:
    """Opens a group and lets all shoppers compete for its last seat, in `rounds` rounds."""
    race = Race(job)
    await race.connect()
    took: list[float] = []
    seated: list[str] = []
    answered = one_winner = 0
    async with grpc.aio.insecure_channel(job["endpoint"], options=DIRECT) as channel:
        stub: Any = orders_pb2_grpc.OrderServiceStub(channel)
        for number in range(job["rounds"]):
            leader = (await _place(stub, order(job["campaign"], wait=WAIT_SEAT_DECIDED))).order
            seconds, answers = await race.run(leader.group)
            winners = [one.order.name for one in answers if one.order.state != ORDER_STATE_REFUSED]
            took.append(seconds)
            answered += len(answers)
            one_winner += len(winners) == 1
            seated += [name.rpartition("/")[2] for name in (leader.name, *winners)]
            if number % 20 == 0:
                print(f"round {number}: last response after {seconds * 1e3:.0f} ms", file=sys.stderr, flush=True)
        # When the last group is settled, the hold of a loser would be in the provider's statement, too.
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
    """Runs the job."""
    job = json.loads(sys.argv[1])
    gc.freeze()
    print(json.dumps(asyncio.run(races(job))))


if __name__ == "__main__":
    main()
