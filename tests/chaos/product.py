"""The product's part: the demo's shop while services are killed and frozen and the broker goes away; then the audit.

Exact means: nothing charged twice, no hold left open, every log replays to itself, and the provider's books are ours.
The part takes its time and, where ORDERS=n is set, until so many orders were acknowledged.
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
from groupbuy.simprovider.v1.simprovider_pb2 import Behaviour, ConfigureRequest
from groupbuy.simprovider.v1.simprovider_pb2_grpc import SimProviderServiceStub

from chassis.rpc import channel_options
from devstack.stack import Stack
from ops.audit.run import wait_quiet
from ops.demo.plan import plan
from ops.demo.player import Player, Tally
from tests.chaos.verdict import Found, in_time, verdict
from tests.waiting import moment

SERVICES = ("orders", "groups", "payments")
#: Of a thousand calls to the provider: no answer and nothing done, no answer though it is done.
LOST_BEFORE, LOST_AFTER = 150, 150
BETWEEN_S = (3.0, 7.0)
#: Longer than a consumer's session: its partitions have gone to nobody else here, but its membership is over.
FREEZE_S = (11.0, 14.0)
BROKER_AWAY_S = (1.0, 5.0, 15.0)
EVENING = 1_000
OPTIONS = channel_options.options()


class Trouble:
    """Breaks one process after the other, and counts."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self._stack = stack
        self._chance = random.Random(seed)
        self.counts: Counter[str] = Counter()

    async def make(self, outages: Outages, over: asyncio.Event) -> None:
        """Goes on until it is over; the broker is killed where its time has come."""
        while not over.is_set():
            await moment(self._chance.uniform(*BETWEEN_S))
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
    """When the broker is killed: at one and at two thirds of a run, and as often again where that lasts longer."""

    def __init__(self, begun_s: float, seconds: float) -> None:
        self._next_s = begun_s + seconds / 3
        self._every_s = seconds / 3

    def due(self, now_s: float) -> bool:
        """Whether one is; it is the next one's turn then."""
        if now_s < self._next_s:
            return False
        self._next_s += self._every_s
        return True


def orders_wanted() -> int:
    """How many orders there are at least: $ORDERS."""
    return int(os.environ.get("ORDERS", "0"))


async def load(stack: Stack, tally: Tally, until_s: float, seed: int, over: asyncio.Event) -> None:
    """One evening after the other, as the demo plays them; then it is over."""
    try:
        async with (
            grpc.aio.insecure_channel(stack.endpoints["orders"], options=OPTIONS) as orders,
            grpc.aio.insecure_channel(stack.endpoints["groups"], options=OPTIONS) as groups,
        ):
            while time.monotonic() < until_s or len(tally.acknowledged) < orders_wanted():
                seed += 1
                player = Player(orders, groups, uuid4(), tally)
                evening = plan(EVENING, seed)
                await player.open_shop(evening)
                await player.play(evening)
    finally:
        over.set()


async def behave(stack: Stack, behaviour: Behaviour) -> None:
    """Sets how the provider behaves from now on."""
    async with grpc.aio.insecure_channel(stack.endpoints["provider"], options=OPTIONS) as channel:
        stub = SimProviderServiceStub(channel)
        await stub.Configure(ConfigureRequest(behaviour=behaviour), timeout=10)


async def product(stack: Stack, *, seconds: float, seed: int) -> Found:
    """One run against the whole product. Returns its figures, and whether all of it was exact."""
    tally = Tally()
    trouble = Trouble(stack, seed)
    await behave(
        stack,
        Behaviour(
            latency_min_ms=5, latency_max_ms=60, fail_before_per_mille=LOST_BEFORE, fail_after_per_mille=LOST_AFTER
        ),
    )
    begun_s, over = time.monotonic(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load(stack, tally, begun_s + seconds, seed, over))
        tasks.create_task(trouble.make(Outages(begun_s, seconds), over))
    await behave(stack, Behaviour())
    await wait_quiet(stack.kafka, deadline_s=180)
    found, good = await verdict(stack, tally)
    return found | trouble.counts, good


def part(seconds: float, seed: int) -> Found:
    """The product's part of `make chaos`, on a system of its own. Returns its figures, and whether it was exact."""
    with tempfile.TemporaryDirectory(prefix="groupbuy-chaos-") as directory, Stack(Path(directory) / "run") as stack:
        return asyncio.run(in_time(product(stack, seconds=seconds, seed=seed)))
