"""Chaos run of payments: an evening of orders while three provider calls in ten get no answer, notifications are
duplicated and late, and the payments service is killed every few seconds; then the audit and the reconciliation.

Half of the calls without an answer took effect. Exact means: no order lost, none charged twice, no hold left open, and
the ledger equal to the provider's statement to the cent. ORDERS=n sets how many orders there are, else 20,000 in five
minutes.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import grpc
from groupbuy.simprovider.v1.simprovider_pb2 import Behaviour

from chassis.rpc.client_config import channel_options
from devstack.stack import Stack
from ops.audit.run import wait_quiet
from ops.demo.plan import Evening, plan
from ops.demo.player import Player, Tally
from tests.chaos.verdict import in_time, verdict
from tests.provider_simulator import configure
from tests.waiting import moment, wait_for_async

#: Orders in five minutes.
ORDERS = 20_000
#: Calls in a thousand without an answer: without effect, and with it.
LOST_BEFORE, LOST_AFTER = 150, 150
#: Notifications in a thousand that are duplicated, and that are late, by so many milliseconds.
TWICE, LATE, LATE_MS = 50, 50, 8_000
#: Seconds that payments waits for an answer to one attempt.
CALL_S = 2
#: Seconds that payments serves between two kills.
LIFE_S = (2.0, 6.0)
#: Seconds by which seats and groups wait longer than in the demo; otherwise nearly all would expire before payment.
EXTRA_WINDOW_S = 30.0
#: Most seconds from the last order to the last settlement.
SETTLED_WITHIN_S = 300.0
#: Most seconds from then to the last notification. Their retry pauses double up to a minute while payments is down.
DELIVERED_WITHIN_S = 90.0
OPTIONS = channel_options.options()
ENVIRONMENT = {"payments": {"GROUPBUY_PAYMENTS_CALL_SECONDS": str(CALL_S)}}


def order_count(seconds: float) -> int:
    """Number of orders: $ORDERS, or in proportion to the length of the run."""
    given = os.environ.get("ORDERS")
    return int(given) if given else max(round(ORDERS * min(seconds / 300, 1)), 200)


async def play(stack: Stack, evening: Evening, tally: Tally) -> None:
    """Plays an evening as the demo does."""
    async with (
        grpc.aio.insecure_channel(stack.endpoints["orders"], options=OPTIONS) as orders,
        grpc.aio.insecure_channel(stack.endpoints["groups"], options=OPTIONS) as groups,
    ):
        player = Player(orders, groups, uuid4(), tally)
        await player.open_shop(evening)
        await player.play(evening)


def with_longer_windows(evening: Evening) -> Evening:
    """The evening with windows for a payments service that is down half of the time."""
    offers = {
        one.id: replace(one, window_s=one.window_s + EXTRA_WINDOW_S, hold_window_s=EXTRA_WINDOW_S)
        for one in evening.offers
    }
    parties = tuple(replace(party, offer=offers[party.offer.id]) for party in evening.parties)
    return replace(evening, offers=tuple(offers.values()), parties=parties)


def undelivered(stack: Stack) -> int:
    """Number of notifications in the provider's outbox."""
    with closing(sqlite3.connect(f"file:{stack.data / 'provider.sqlite'}?mode=ro", uri=True)) as books:
        return int(books.execute("SELECT count(*) FROM notices").fetchone()[0])


async def kill_repeatedly(stack: Stack, seed: int, count: Callable[[], None]) -> None:
    """Kills payments with SIGKILL each time it has served for a few seconds, until cancelled."""
    chance = random.Random(seed)
    while True:
        await moment(chance.uniform(*LIFE_S))
        await asyncio.to_thread(stack.kill, "payments", restart=False)
        # Restarted here, without the supervisor's growing pause.
        await asyncio.to_thread(stack.start_service, "payments")
        count()
        await asyncio.to_thread(stack.wait_serving, "payments")


async def run(stack: Stack, orders: int, seed: int) -> tuple[dict[str, object], bool]:
    """One run. Returns its figures, and whether it was exact."""
    tally, kills = Tally(), 0

    def count() -> None:
        nonlocal kills
        kills += 1

    await configure(
        stack.endpoints["provider"],
        Behaviour(
            latency_min_ms=5,
            latency_max_ms=60,
            timeout_before_per_mille=LOST_BEFORE,
            timeout_after_per_mille=LOST_AFTER,
            notify_own=True,
            notify_twice_per_mille=TWICE,
            notify_late_per_mille=LATE,
            notify_late_ms=LATE_MS,
            notify_shuffle_ms=300,
        ),
    )
    begun = time.monotonic()
    killing = asyncio.create_task(kill_repeatedly(stack, seed, count))
    try:
        await play(stack, with_longer_windows(plan(orders, seed)), tally)
    finally:
        killing.cancel()
        await asyncio.wait([killing])
    played = time.monotonic()
    await configure(stack.endpoints["provider"], Behaviour())

    async def all_delivered() -> bool:
        return not await asyncio.to_thread(undelivered, stack)

    await wait_quiet(stack.kafka, deadline_s=SETTLED_WITHIN_S)
    settled = time.monotonic()
    await wait_for_async(all_delivered, seconds=DELIVERED_WITHIN_S)
    # The last notifications may have been claims of money.
    await wait_quiet(stack.kafka, deadline_s=SETTLED_WITHIN_S)
    found, good = await verdict(stack, tally)
    times = {"load_s": round(played - begun, 1), "settle_s": round(settled - played, 1)}
    return {**found, "kills": kills, **times}, good and kills > 0


def part(seconds: float, seed: int) -> tuple[dict[str, object], bool]:
    """The payments run of `make chaos` on a stack of its own. It ends when its orders have."""
    with (
        tempfile.TemporaryDirectory(prefix="groupbuy-chaos-") as directory,
        Stack(Path(directory) / "run", environment=ENVIRONMENT) as stack,
    ):
        return asyncio.run(in_time(run(stack, order_count(seconds), seed)))
