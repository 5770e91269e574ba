"""The kernel's part of `make chaos`: the long form, on a broker of its own that is killed and restarted.

Given 150 seconds (half of `MINUTES=5`) or more: at least 200,000 facts over 20,000 aggregates, 30 kills, 5 freezes past
the session time-out, 3 doubles, 2 broker restarts, and produce requests that arrive after their client's death. Given
1,800 seconds: 360 kills, 60 freezes, 36 doubles and 7 broker restarts.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from devstack.kafka.broker import Broker
from tests.chaos.kernel.run import Trouble, chaos, exact
from tests.chaos.kernel.workers import Workers

FACTS_PER_S = 4_000 / 3
#: The check keeps all records in memory, about a kilobyte each.
MAX_FACTS = 1_500_000
#: A few are never drawn.
AGGREGATES_PER_S = 134


def trouble(seconds: float, seed: int) -> Trouble:
    """Everything grows with the time."""
    return Trouble(
        facts=min(int(seconds * FACTS_PER_S), MAX_FACTS),
        aggregates=max(int(seconds * AGGREGATES_PER_S), 20_100),
        seconds=seconds,
        kills=max(int(seconds / 5), 1),
        freezes=max(int(seconds / 30), 1),
        doubles=max(int(seconds / 50), 1),
        broker_restarts=max(int(seconds / 250), 2),
        seed=seed,
    )


async def _play(planned: Trouble) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="groupbuy-chaos-") as directory:
        broker = Broker()
        await asyncio.to_thread(broker.start, Path(directory) / "kafka")

        async def restart(workers: Workers) -> None:
            broker.kill()
            await asyncio.to_thread(broker.restart)

        try:
            return await chaos(broker.bootstrap, planned, Path(directory) / "workers", restart)
        finally:
            broker.release()


def part(seconds: float, seed: int) -> tuple[dict[str, object], bool]:
    """Plays it. Returns the figures, and whether the log was exact and all that was planned was done."""
    planned = trouble(seconds, seed)
    counts = asyncio.run(_play(planned))
    did = counts["kills"] >= planned.kills and counts["woken"] >= planned.freezes and counts["late_after_death"] > 0
    return dict(counts), did and exact(counts)
