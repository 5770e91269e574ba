"""The product part: the demo's shop while services are killed and frozen and the broker has outages; then the audit.

The run is exact if nothing was charged twice, no hold is open, every log replays to itself, and the ledger equals the
provider's statement. It lasts for the time of the part and, with ORDERS=n, until so many orders were acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import grpc
from groupbuy.simprovider.v1.simprovider_pb2 import Behaviour

from chassis.rpc.client_config import channel_options
from devstack.stack import Stack
from ops.audit.run import wait_quiet
from ops.demo.plan import plan
from ops.demo.player import Player, Tally
from tests.chaos.verdict import Found, in_time, verdict
from tests.provider_simulator import configure
from tests.waiting import moment

SERVICES = ("orders", "groups", "payments")
#: Provider calls in a thousand that fail: without effect, and with it.
LOST_BEFORE, LOST_AFTER = 150, 150
#: Seconds between two faults.
INTERVAL_S = (3.0, 7.0)
#: Longer than the session time-out, so the frozen process loses its membership, though no other takes its partitions.
FREEZE_S = (11.0, 14.0)
BROKER_AWAY_S = (1.0, 5.0, 15.0)
EVENING = 1_000
OPTIONS = channel_options.options()


class FaultInjector:
    """Kills and freezes processes, one at a time, and counts the faults."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self._stack = stack
        self._chance = random.Random(seed)
        self.counts: Counter[str] = Counter()

    async def inject(self, outages: Outages, over: asyncio.Event) -> None:
        """Injects faults until `over`; the broker is killed when an outage is due."""
        while not over.is_set():
            await moment(self._chance.uniform(*INTERVAL_S))
            if outages.due(time.monotonic()):
                await self._outage()
            elif self._chance.random() < 0.15:
                await self._freeze()
            else:
                self.counts["kills"] += 1
                self._stack.kill(self._chance.choice(SERVICES))

    async def _freeze(self) -> None:
        name = self._chance.choice(SERVICES)
        self.counts["freezes"] += 1
        self._stack.freeze(name)
        try:
            await moment(self._chance.uniform(*FREEZE_S))
        finally:
            self._stack.thaw(name)

    async def _outage(self) -> None:
        self.counts["broker_kills"] += 1
        self._stack.broker.kill()
        await moment(self._chance.choice(BROKER_AWAY_S))
        await asyncio.to_thread(self._stack.broker.restart)


class Outages:
    """The times at which the broker is killed: after each third of the planned run, also beyond its end."""

    def __init__(self, began_s: float, seconds: float) -> None:
        self._next_s = began_s + seconds / 3
        self._every_s = seconds / 3

    def due(self, now_s: float) -> bool:
        """Whether an outage is due. If so, schedules the next one."""
        if now_s < self._next_s:
            return False
        self._next_s += self._every_s
        return True


def min_orders() -> int:
    """Minimal number of orders: $ORDERS."""
    return int(os.environ.get("ORDERS", "0"))


async def load(stack: Stack, tally: Tally, until_s: float, seed: int, over: asyncio.Event) -> None:
    """Plays one evening after the other as the demo does, then sets `over`."""
    try:
        async with (
            grpc.aio.insecure_channel(stack.endpoints["orders"], options=OPTIONS) as orders,
            grpc.aio.insecure_channel(stack.endpoints["groups"], options=OPTIONS) as groups,
        ):
            while time.monotonic() < until_s or len(tally.acknowledged) < min_orders():
                seed += 1
                player = Player(orders, groups, uuid4(), tally)
                evening = plan(EVENING, seed)
                await player.open_shop(evening)
                await player.play(evening)
    finally:
        over.set()


async def product(stack: Stack, *, seconds: float, seed: int) -> Found:
    """One run against the whole product. Returns its figures, and whether it was exact."""
    tally = Tally()
    faults = FaultInjector(stack, seed)
    await configure(
        stack.endpoints["provider"],
        Behaviour(
            latency_min_ms=5, latency_max_ms=60, fail_before_per_mille=LOST_BEFORE, fail_after_per_mille=LOST_AFTER
        ),
    )
    began_s, over = time.monotonic(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load(stack, tally, began_s + seconds, seed, over))
        tasks.create_task(faults.inject(Outages(began_s, seconds), over))
    await configure(stack.endpoints["provider"], Behaviour())
    await wait_quiet(stack.kafka, deadline_s=180)
    found, good = await verdict(stack, tally)
    return found | faults.counts, good


def part(seconds: float, seed: int) -> Found:
    """The product part of `make chaos`, on a stack of its own. Returns its figures, and whether it was exact."""
    with tempfile.TemporaryDirectory(prefix="groupbuy-chaos-") as directory, Stack(Path(directory) / "run") as stack:
        return asyncio.run(in_time(product(stack, seconds=seconds, seed=seed)))
