"""The leaderless part: half of the product's partitions have no leader for 15 s under load, twice.

API publishers, sequencers, deciders, effects and the projection are all affected, and clients retry their orders. The
run is exact under the same conditions as that of product.py.
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
#: Seconds of load before and between.
INTERVAL_S = 10.0
SETTLED_WITHIN_S = 180.0
SECOND_BROKER = 2


async def _load_without_leaders(stack: Stack, cluster: Cluster, seed: int) -> Found:
    tally, over = Tally(), asyncio.Event()
    began_s = time.monotonic()
    lost = 0
    async with asyncio.TaskGroup() as tasks:
        seconds = TIMES * (LEADERLESS_S + INTERVAL_S)
        tasks.create_task(load(stack, tally, began_s + seconds, seed, over))
        for _ in range(TIMES):
            await moment(INTERVAL_S)
            leaders = list((await cluster.leaders(ORDERS.name)).values())
            lost += leaders.count(SECOND_BROKER)
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
            return await in_time(_load_without_leaders(stack, cluster, seed))
        finally:
            await asyncio.to_thread(stack.stop)
    finally:
        await asyncio.to_thread(cluster.release)


def part(seconds: float, seed: int) -> Found:
    """The leaderless part of `make chaos`, on two brokers of its own. Its length does not depend on `seconds`."""
    with tempfile.TemporaryDirectory(prefix="groupbuy-chaos-") as directory:
        return asyncio.run(_run(Path(directory), seed))
