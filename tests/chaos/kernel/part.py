"""The kernel's part of `make chaos`: the long form, on its own broker, which is killed and restarted.

With 150 seconds (half of `MINUTES=5`) or more: at least 200,000 inputs over 20,000 aggregates, 30 kills, 5 freezes
beyond the session time-out, 3 doubles, 2 broker restarts, and produce requests that arrive after the death of their
client. With 1,800 seconds: 360 kills, 60 freezes, 36 doubles and 7 broker restarts.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from devstack.kafka.broker import Broker
from tests.chaos.kernel.run import FaultPlan, chaos, exact
from tests.chaos.kernel.workers import Workers

FACTS_PER_S = 4_000 / 3
#: The comparison holds all records in memory, about a kilobyte each.
MAX_FACTS = 1_500_000
#: A few more than wanted, because the random choice misses some.
AGGREGATES_PER_S = 134


def fault_plan(seconds: float, seed: int) -> FaultPlan:
    """A plan in proportion to the time."""
    return FaultPlan(
        facts=min(int(seconds * FACTS_PER_S), MAX_FACTS),
        aggregates=max(int(seconds * AGGREGATES_PER_S), 20_100),
        seconds=seconds,
        kills=max(int(seconds / 5), 1),
        freezes=max(int(seconds / 30), 1),
        doubles=max(int(seconds / 50), 1),
        broker_restarts=max(int(seconds / 250), 2),
        seed=seed,
    )


async def _run(plan: FaultPlan) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="groupbuy-chaos-") as directory:
        broker = Broker()
        await asyncio.to_thread(broker.start, Path(directory) / "kafka")

        async def restart(workers: Workers) -> None:
            broker.kill()
            await asyncio.to_thread(broker.restart)

        try:
            return await chaos(broker.bootstrap, plan, Path(directory) / "workers", restart)
        finally:
            broker.release()


def part(seconds: float, seed: int) -> tuple[dict[str, object], bool]:
    """Runs the part. Returns the figures, and whether the log was exact and the plan was carried out."""
    plan = fault_plan(seconds, seed)
    counts = asyncio.run(_run(plan))
    complete = counts["kills"] >= plan.kills and counts["woken"] >= plan.freezes and counts["late_after_death"] > 0
    return dict(counts), complete and exact(counts)
