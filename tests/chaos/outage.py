"""The outage part: the provider is down for two minutes while orders keep coming; then the usual checks.

The run is exact if all orders were accepted, the health report showed an open circuit, memory stayed flat, everything
was settled within a minute of the provider's return, and the ledger equals the provider's statement. OUTAGE=seconds
sets the length of the outage.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import aiohttp
import grpc

from devstack.product import WEBHOOKS
from devstack.stack import Stack
from ops.audit.run import wait_quiet
from ops.demo.plan import plan
from ops.demo.player import Player, Tally
from tests.chaos.payments import OPTIONS
from tests.chaos.verdict import in_time, verdict
from tests.waiting import moment

OUTAGE_S = 120.0
#: Orders of one small evening, and the seconds in which they arrive.
EVENING, EVENING_S = 360, 12.0
#: Most seconds from the provider's return until everything is settled.
SETTLED_WITHIN_S = 60.0
#: Most growth of the payments process during the outage.
GROWTH_MB = 60
POLL_INTERVAL_S = 1.0


def outage_s(seconds: float) -> float:
    """Length of the outage: $OUTAGE, or the time of the part, up to two minutes."""
    given = os.environ.get("OUTAGE")
    return float(given) if given else min(max(seconds, 20.0), OUTAGE_S)


@dataclass
class Monitor:
    """Samples of the payments service: the health of its providers, and its memory in MB."""

    stack: Stack
    health: list[dict[str, str]] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Samples until cancelled."""
        url = f"http://{self.stack.endpoints[WEBHOOKS]}/health"
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(url) as response:
                    self.health.append((await response.json())["providers"])
                self.rss_mb.append(await asyncio.to_thread(self._rss_mb))
                await moment(POLL_INTERVAL_S)

    def _rss_mb(self) -> float:
        pid = str(self.stack.pid("payments"))
        return int(subprocess.run(["ps", "-o", "rss=", "-p", pid], capture_output=True, check=True).stdout) / 1024


async def load(stack: Stack, tally: Tally, until_s: float, seed: int) -> None:
    """Plays small evenings, one every EVENING_S; the orders of the last one end before `until_s`."""
    async with (
        grpc.aio.insecure_channel(stack.endpoints["orders"], options=OPTIONS) as orders,
        grpc.aio.insecure_channel(stack.endpoints["groups"], options=OPTIONS) as groups,
        asyncio.TaskGroup() as evenings,
    ):
        while time.monotonic() + EVENING_S <= until_s:
            seed += 1
            evening = plan(EVENING, seed)
            player = Player(orders, groups, uuid4(), tally)
            await player.open_shop(evening)
            evenings.create_task(player.play(evening))
            await moment(EVENING_S)


async def run(stack: Stack, seconds: float, seed: int) -> tuple[dict[str, object], bool]:
    """One run. Returns its figures, and whether it was exact."""
    tally, monitor = Tally(), Monitor(stack)
    back_s = time.monotonic() + EVENING_S + seconds
    async with asyncio.TaskGroup() as tasks:
        monitoring = tasks.create_task(monitor.run())
        playing = tasks.create_task(load(stack, tally, back_s, seed))
        await moment(EVENING_S)
        before, samples = len(tally.acknowledged), len(monitor.rss_mb)
        await asyncio.to_thread(stack.kill, "provider", restart=False)
        await moment(max(back_s - time.monotonic(), 0))
        accepted, down = len(tally.acknowledged) - before, monitor.health[samples:]
        await asyncio.to_thread(stack.start_service, "provider")
        returned_s = time.monotonic()
        await playing
        monitoring.cancel()
    await wait_quiet(stack.kafka, deadline_s=3 * SETTLED_WITHIN_S)
    settled_after_s = time.monotonic() - returned_s
    found, good = await verdict(stack, tally)
    circuit_open = any(health["simulated"] == "NOT_SERVING" for health in down)
    before_mb, most_mb = max(monitor.rss_mb[:samples]), max(monitor.rss_mb)
    mine = {
        "down_s": seconds,
        "accepted_while_down": accepted,
        "left_alone": circuit_open,
        "settled_after_s": round(settled_after_s, 1),
        "rss_before_mb": round(before_mb),
        "rss_most_mb": round(most_mb),
    }
    in_limits = settled_after_s < SETTLED_WITHIN_S and most_mb - before_mb < GROWTH_MB
    return {**found, **mine}, good and accepted > 0 and circuit_open and in_limits


def part(seconds: float, seed: int) -> tuple[dict[str, object], bool]:
    """The outage part of `make chaos`, on a stack of its own."""
    with tempfile.TemporaryDirectory(prefix="groupbuy-chaos-") as directory, Stack(Path(directory) / "run") as stack:
        return asyncio.run(in_time(run(stack, outage_s(seconds), seed)))
