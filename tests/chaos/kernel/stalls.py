"""Rare disturbances of the kernel, each with the independent comparison: `python -m tests.chaos.run --only stalls`.

- frozen_broker: the broker is stopped for 40 s in the middle of a rebalance;
- leaderless: half of the partitions have no leader for 15 s under load;
- collector: the reader of the workers' output closes the pipe or stops reading;
- late_replica: a replica with an empty directory joins beside a log of 500,000 records and takes over.
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
from tests.chaos.kernel.run import BrokerFault, FaultPlan, chaos, exact
from tests.chaos.kernel.topics import group_of
from tests.chaos.kernel.workers import WRONG_THREAD, Workers
from tests.waiting import moment, wait_for_async

ROOT = Path(__file__).parents[3]
FROZEN_S, LEADERLESS_S = 40.0, 15.0
#: Longest time from the start of another worker to the rebalance; it warms up before it joins.
REBALANCE_WITHIN_S = 60.0
FACTS_PER_S, AGGREGATES_PER_S = 800, 80
#: Records in the log when the late replica starts: for each second of the part, and at most.
RECORDS_PER_S, MAX_RECORDS = 5_000, 500_000
THIRD = "w2"
_REBALANCING = frozenset({"PreparingRebalance", "CompletingRebalance"})

Counts = dict[str, int]


def fault_plan(seconds: float, seed: int, **more: Any) -> FaultPlan:
    """A plan with load for so many seconds, and one kill."""
    facts, aggregates = int(seconds * FACTS_PER_S), int(seconds * AGGREGATES_PER_S)
    return FaultPlan(facts, aggregates, seconds, kills=1, freezes=0, seed=seed, **more)


async def _state(kafka: str, group: str) -> str:
    """The state of a consumer group; empty if the broker does not answer."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        (described,) = await admin.describe_consumer_groups([group])
        return str(described.groups[0][2])
    except KafkaError:
        return ""
    finally:
        await admin.close()


def freezing(broker: Broker, seconds: float) -> BrokerFault:
    """Starts another worker, and freezes the broker for a while as soon as the group rebalances."""

    async def fault(workers: Workers) -> None:
        workers.start(THIRD)

        async def rebalancing() -> bool:
            return await _state(broker.bootstrap, group_of(workers.tag)) in _REBALANCING

        await wait_for_async(rebalancing, seconds=REBALANCE_WITHIN_S, every=0.02)
        broker.process.freeze()
        try:
            await moment(seconds)
        finally:
            broker.process.thaw()

    return fault


async def _frozen(directory: Path, seed: int) -> Counts:
    broker = Broker()
    try:
        await asyncio.to_thread(broker.start, directory / "kafka")
        plan = fault_plan(30.0, seed, broker_restarts=1)
        return await chaos(broker.bootstrap, plan, directory / "workers", freezing(broker, FROZEN_S))
    finally:
        broker.release()


async def _leaderless(directory: Path, seed: int) -> Counts:
    cluster = Cluster(directory)

    async def fault(workers: Workers) -> None:
        await cluster.leaderless(LEADERLESS_S)

    try:
        await cluster.start()
        # Three times as long, so that there is load before and after.
        plan = fault_plan(3 * LEADERLESS_S, seed, broker_restarts=1, late=False)
        return await chaos(cluster.bootstrap, plan, directory / "workers", fault)
    finally:
        cluster.release()


async def _collector(directory: Path, seed: int) -> Counts:
    broker = Broker()
    try:
        await asyncio.to_thread(broker.start, directory / "kafka")
        return await chaos(broker.bootstrap, fault_plan(30.0, seed, mutes=6), directory / "workers")
    finally:
        broker.release()


async def _late_replica(records: int, directory: Path) -> Counts:
    # In another process: the replica runs in it, and an invariant violation ends it.
    command = (sys.executable, "-m", "tests.chaos.kernel.late_replica", "--decisions", str(records))
    output = directory / "output"
    with output.open("wb") as errors:
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, check=False
        )
    text = output.read_text(errors="replace")
    violations = text.count(WRONG_THREAD)
    lines = done.stdout.decode().splitlines()
    try:
        report = json.loads(lines[-1])
    except (IndexError, ValueError):
        print(text[-3_000:], flush=True)
        return {"impossible": 1, "threads_violations": violations}
    print(f"late replica: {report}", flush=True)
    return {**report["counts"], "log_records": report["decisions"], "threads_violations": violations}


async def _run(seconds: float, seed: int) -> dict[str, Counts]:
    records = min(MAX_RECORDS, int(seconds * RECORDS_PER_S))
    scenarios: dict[str, Callable[[Path], Awaitable[Counts]]] = {
        "frozen_broker": lambda directory: _frozen(directory, seed),
        "leaderless": lambda directory: _leaderless(directory, seed),
        "collector": lambda directory: _collector(directory, seed),
        "late_replica": lambda directory: _late_replica(records, directory),
    }
    wanted = os.environ.get("STALLS")
    found: dict[str, Counts] = {}
    for name, run in scenarios.items():
        if wanted and name not in wanted.split(","):
            continue
        with tempfile.TemporaryDirectory(prefix="groupbuy-stalls-") as directory:
            begun = time.monotonic()
            counts = await run(Path(directory))
            found[name] = {**counts, "seconds": round(time.monotonic() - begun)}
            print(f"{name}: {json.dumps(found[name])}", flush=True)
    return found


def part(seconds: float, seed: int) -> tuple[dict[str, object], bool]:
    """Runs all of them, or those that $STALLS names. Returns the figures, and whether every log was exact."""
    found = asyncio.run(_run(seconds, seed))
    names = ("kills", "missing", "extra", "conflicting", "threads_violations")
    summed: dict[str, object] = {name: sum(one.get(name, 0) for one in found.values()) for name in names}
    return {**summed, **found}, all(exact(one) for one in found.values())
