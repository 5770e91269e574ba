"""The outage's part: the provider is down for two minutes while orders keep coming; then the same checks as ever.

Exact means: every order was accepted, health showed that the provider was left alone, memory stayed flat, all was
settled within a minute of its return, and the books are the provider's. OUTAGE=seconds sets how long it is down.
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
#: Orders of one small evening, and how long they take to come.
EVENING, EVENING_S = 360, 12.0
#: Everything is settled so long after the provider's return.
SETTLED_WITHIN_S = 60.0
#: Of the payments service: what it may grow by while the provider is down.
GROWTH_MB = 60
POLL_INTERVAL_S = 1.0


def outage_s(seconds: float) -> float:
    """How long the provider is down: by $OUTAGE, else as long as there is time, up to two minutes."""
    given = os.environ.get("OUTAGE")
    return float(given) if given else min(max(seconds, 20.0), OUTAGE_S)


@dataclass
class Watch:
    """What is seen of the payments service from outside: its health, and its memory in MB."""

    stack: Stack
    said: list[dict[str, str]] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Looks until cancelled."""
        url = f"http://{self.stack.endpoints[WEBHOOKS]}/health"
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(url) as answer:
                    self.said.append((await answer.json())["providers"])
                self.rss_mb.append(await asyncio.to_thread(self._rss_mb))
                await moment(POLL_INTERVAL_S)

    def _rss_mb(self) -> float:
        pid = str(self.stack.pid("payments"))
        return int(subprocess.run(["ps", "-o", "rss=", "-p", pid], capture_output=True, check=True).stdout) / 1024


async def load(stack: Stack, tally: Tally, until_s: float, seed: int) -> None:
    """Small evenings, each begun when the orders of the one before have come; the last one ends before `until_s`."""
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
    """One run. Returns its figures, and whether all of it was exact."""
    tally, watch = Tally(), Watch(stack)
    back_s = time.monotonic() + EVENING_S + seconds
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch.run())
        playing = tasks.create_task(load(stack, tally, back_s, seed))
        await moment(EVENING_S)
        before, looks = len(tally.acknowledged), len(watch.rss_mb)
        await asyncio.to_thread(stack.kill, "provider", restart=False)
        await moment(max(back_s - time.monotonic(), 0))
        accepted, down = len(tally.acknowledged) - before, watch.said[looks:]
        await asyncio.to_thread(stack.start_service, "provider")
        returned_s = time.monotonic()
        await playing
        watching.cancel()
    await wait_quiet(stack.kafka, deadline_s=3 * SETTLED_WITHIN_S)
    settled_after_s = time.monotonic() - returned_s
    found, good = await verdict(stack, tally)
    left_alone = any(said["simulated"] == "NOT_SERVING" for said in down)
    before_mb, most_mb = max(watch.rss_mb[:looks]), max(watch.rss_mb)
    mine = {
        "down_s": seconds,
        "accepted_while_down": accepted,
        "left_alone": left_alone,
        "settled_after_s": round(settled_after_s, 1),
        "rss_before_mb": round(before_mb),
        "rss_most_mb": round(most_mb),
    }
    fine = accepted > 0 and left_alone and settled_after_s < SETTLED_WITHIN_S and most_mb - before_mb < GROWTH_MB
    return {**found, **mine}, good and fine


def part(seconds: float, seed: int) -> tuple[dict[str, object], bool]:
    """The outage's part of `make chaos`, on a whole system of its own; it takes the time that the outage takes."""
    with tempfile.TemporaryDirectory(prefix="groupbuy-chaos-") as directory, Stack(Path(directory) / "run") as stack:
        return asyncio.run(in_time(run(stack, outage_s(seconds), seed)))
