"""The leaderless part: half of the product's partitions have no leader for 15 s under load, twice.

Publishers of the API, sequencers, deciders, effects and the projection all meet it, and a client that placed an order
retries it. Exact means what it means in the product's part.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from devstack.stack import Stack
from ops.audit.run import wait_quiet
from ops.demo.player import Tally
from shared_kernel.topics import ORDERS
from tests.chaos.cluster import Cluster
from tests.chaos.product import load
from tests.chaos.verdict import Found, in_time, verdict
from tests.waiting import moment

LEADERLESS_S = 15.0
TIMES = 2
#: Load before, between and after.
BETWEEN_S = 10.0
SETTLED_WITHIN_S = 180.0
SECOND = 2


async def _play(stack: Stack, cluster: Cluster, seed: int) -> Found:
    tally, over = Tally(), asyncio.Event()
    begun_s = time.monotonic()
    lost = 0
    async with asyncio.TaskGroup() as tasks:
        seconds = TIMES * (LEADERLESS_S + BETWEEN_S)
        tasks.create_task(load(stack, tally, begun_s + seconds, seed, over))
        for _ in range(TIMES):
            await moment(BETWEEN_S)
            led = list((await cluster.led(ORDERS.name)).values())
            lost += led.count(SECOND)
            await cluster.leaderless(LEADERLESS_S)
    await wait_quiet(stack.kafka, deadline_s=SETTLED_WITHIN_S)
    found, good = await verdict(stack, tally)
    return {**found, "leaderless_partitions": lost}, good and lost > 0


async def _run(directory: Path, seed: int) -> Found:
    cluster = Cluster(directory / "kafka")
    try:
        await cluster.start()
        stack = Stack(directory / "run", kafka=cluster.bootstrap)
        try:
            await asyncio.to_thread(stack.start)
            return await in_time(_play(stack, cluster, seed))
        finally:
            await asyncio.to_thread(stack.stop)
    finally:
        await asyncio.to_thread(cluster.release)


def part(seconds: float, seed: int) -> Found:
    """The leaderless part of `make chaos`, on two brokers of its own; it takes the time that it takes."""
    with tempfile.TemporaryDirectory(prefix="groupbuy-chaos-") as directory:
        return asyncio.run(_run(Path(directory), seed))
