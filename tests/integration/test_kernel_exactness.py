"""The kernel on a real broker: with crashes at any step, the log equals an independent fold of the inbox.

The long form is tests/chaos.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from eventlog.runtime import failpoints
from tests.chaos.kernel.launch import WorkerProcess
from tests.chaos.kernel.run import FaultPlan, chaos, exact
from tests.chaos.kernel.site import Site

#: Failpoints that are passed once at the start, before a worker can be told to arm them.
AT_START = ("state opened, not compared", "start read, log's end not", "changelog folded", "partition recovered")
#: Failpoints that are passed when another worker joins.
AT_REBALANCE = ("partitions revoked", "partitions drained")
#: Number of sites in parallel: a start is mostly waiting.
CHAINS = 4


async def test_kills_freezes_duplicates_and_late_requests_lose_and_change_nothing(
    kafka_broker: str, tmp_path: Path
) -> None:
    plan = FaultPlan(facts=12_000, aggregates=1_200, seconds=18, kills=4, freezes=1, doubles=1, seed=3, session_s=6)
    counts = await chaos(kafka_broker, plan, tmp_path)
    assert exact(counts), str(counts)
    assert counts["facts"] >= 12_000
    assert (counts["kills"], counts["woken"], counts["doubles"]) == (4, 1, 1)


async def test_a_crash_at_any_step_leaves_the_log_exact(kafka_broker: str, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as chains:
        for n in range(CHAINS):
            chains.create_task(_crashes(kafka_broker, tmp_path / str(n), failpoints.STEPS[n::CHAINS]))


async def _crashes(kafka: str, directory: Path, steps: tuple[str, ...]) -> None:
    """Runs one worker after the other on one log. Each recovers, then crashes at its own step."""
    async with Site(kafka, directory) as site:
        last = "nothing"
        for step in sorted(steps, key=lambda step: step in AT_REBALANCE):
            if step in AT_START:
                # Without a checkpoint, the worker folds the whole log.
                (await _exact_after(last, site)).kill()
                site.delete_state("w0")
                await site.feed()
                worker = site.start(crash_at=f"{step}:1")
            else:
                worker = await _exact_after(last, site, arm=f"{step}:1")
                await site.arm(worker)
                if step in AT_REBALANCE:
                    site.start(f"beside {step}")
                await site.feed()
            assert await site.wait_exit(worker) == -9, f"not killed at: {step}\n{site.log_of('w0').read_text()}"
            last = step
        await _exact_after(last, site)


async def _exact_after(step: str, site: Site, arm: str = "") -> WorkerProcess:
    worker = site.start(arm=arm)
    await site.feed()
    await site.wait_drained()
    counts = await site.settled_counts()
    assert exact(counts), (step, counts)
    return worker
