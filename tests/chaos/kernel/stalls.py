"""The kernel's rarer troubles, each with the exact check: `python -m tests.chaos.run --only stalls`.

- frozen broker: it is stopped for 40 s in the middle of a rebalance;
- leaderless: half of the partitions have no leader for 15 s under load;
- collector: whatever reads the workers' output goes, or reads no more;
- late replica: it comes with an empty directory beside a log of 500,000 records, and takes over (late_replica.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from devstack.kafka.broker import Broker
from tests.chaos.cluster import Cluster
from tests.chaos.kernel.run import Blow, Trouble, chaos, exact
from tests.chaos.kernel.topics import group_of
from tests.chaos.kernel.workers import WRONG_THREAD, Workers
from tests.waiting import moment, wait_for_async

ROOT = Path(__file__).parents[3]
FROZEN_S, LEADERLESS_S = 40.0, 15.0
#: A rebalance has begun so soon after a worker more was started; it folds ahead before it joins.
BEGINS_S = 60.0
FACTS_PER_S, AGGREGATES_PER_S = 800, 80
#: Records of the log that a replica finds, for each second of the part, and at most.
RECORDS_PER_S, RECORDS = 5_000, 500_000
THIRD = "w2"
_MOVING = frozenset({"PreparingRebalance", "CompletingRebalance"})

Counts = dict[str, int]


def trouble(seconds: float, seed: int, **more: Any) -> Trouble:
    """Load for so many seconds, and one kill."""
    facts, aggregates = int(seconds * FACTS_PER_S), int(seconds * AGGREGATES_PER_S)
    return Trouble(facts, aggregates, seconds, kills=1, freezes=0, seed=seed, **more)


async def _state(kafka: str, group: str) -> str:
    """State of a consumer group; empty where the broker does not say."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([group])
        return str(answer.groups[0][2])
    except KafkaError:
        return ""
    finally:
        await admin.close()


def freezing(broker: Broker, seconds: float) -> Blow:
    """Starts a worker more, and stops the broker for a while as soon as the group rebalances."""

    async def blow(workers: Workers) -> None:
        workers.start(THIRD)

        async def moving() -> bool:
            return await _state(broker.bootstrap, group_of(workers.tag)) in _MOVING

        await wait_for_async(moving, seconds=BEGINS_S, every=0.02)
        broker.process.freeze()
        try:
            await moment(seconds)
        finally:
            broker.process.thaw()

    return blow


async def _frozen(directory: Path, seed: int) -> Counts:
    broker = Broker()
    try:
        await asyncio.to_thread(broker.start, directory / "kafka")
        planned = trouble(30.0, seed, broker_restarts=1)
        return await chaos(broker.bootstrap, planned, directory / "workers", freezing(broker, FROZEN_S))
    finally:
        broker.release()


async def _leaderless(directory: Path, seed: int) -> Counts:
    cluster = Cluster(directory)

    async def blow(workers: Workers) -> None:
        await cluster.leaderless(LEADERLESS_S)

    try:
        await cluster.start()
        # Under load throughout.
        planned = trouble(3 * LEADERLESS_S, seed, broker_restarts=1, late=False)
        return await chaos(cluster.bootstrap, planned, directory / "workers", blow)
    finally:
        cluster.release()


async def _collector(directory: Path, seed: int) -> Counts:
    broker = Broker()
    try:
        await asyncio.to_thread(broker.start, directory / "kafka")
        return await chaos(broker.bootstrap, trouble(30.0, seed, mutes=6), directory / "workers")
    finally:
        broker.release()


async def _late_replica(records: int, directory: Path) -> Counts:
    # In a process of its own: the replica is in that very process, and ends it at what is impossible.
    command = (sys.executable, "-m", "tests.chaos.kernel.late_replica", "--decisions", str(records))
    said = directory / "said"
    with said.open("wb") as errors:
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, check=False
        )
    told = said.read_text(errors="replace")
    violations = told.count(WRONG_THREAD)
    lines = done.stdout.decode().splitlines()
    try:
        report = json.loads(lines[-1])
    except (IndexError, ValueError):
        print(told[-3_000:], flush=True)
        return {"impossible": 1, "threads_violations": violations}
    print(f"late replica: {report}", flush=True)
    return {**report["counts"], "log_records": report["decisions"], "threads_violations": violations}


async def _play(seconds: float, seed: int) -> dict[str, Counts]:
    records = min(RECORDS, int(seconds * RECORDS_PER_S))
    plays: dict[str, Callable[[Path], Awaitable[Counts]]] = {
        "frozen_broker": lambda directory: _frozen(directory, seed),
        "leaderless": lambda directory: _leaderless(directory, seed),
        "collector": lambda directory: _collector(directory, seed),
        "late_replica": lambda directory: _late_replica(records, directory),
    }
    wanted = os.environ.get("STALLS")
    found: dict[str, Counts] = {}
    for name, play in plays.items():
        if wanted and name not in wanted.split(","):
            continue
        with tempfile.TemporaryDirectory(prefix="groupbuy-stalls-") as directory:
            begun = time.monotonic()
            counts = await play(Path(directory))
            found[name] = {**counts, "seconds": round(time.monotonic() - begun)}
            print(f"{name}: {json.dumps(found[name])}", flush=True)
    return found


def part(seconds: float, seed: int) -> tuple[dict[str, object], bool]:
    """Plays all of them, or those that $STALLS names. Returns the figures, and whether every log was exact."""
    found = asyncio.run(_play(seconds, seed))
    names = ("kills", "missing", "extra", "conflicting", "threads_violations")
    summed: dict[str, object] = {name: sum(one.get(name, 0) for one in found.values()) for name in names}
    return {**summed, **found}, all(exact(one) for one in found.values())
