"""A replica that joins beside a long log and an owner under load; then the owner is killed.

The replica has an empty state directory. It warms up, joins, receives some partitions of the owner, follows the others,
and takes them over. Run as a module, it uses a log of 500,000 decisions and its own broker, and prints the report as
JSON; it exits with 1 if the log is not exact.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from devstack.kafka.broker import Broker
from eventlog.processors import base
from eventlog.processors.base import Connection
from eventlog.processors.decider import Decider
from eventlog.records.codec import Codec
from tests.chaos.kernel.run import PARTITIONS, exact
from tests.chaos.kernel.site import SESSION_S, Site
from tests.unit.eventlog.counting import Counter, Counting
from tests.waiting import wait_for_async

DECISIONS = 500_000
#: Inputs per second while the replica joins.
LOAD_PER_S = 300
#: Seconds of inputs; they end when the replica has taken over.
LOAD_S = 600
#: Deadline of each step.
STEP_S = 240.0


@dataclass
class Report:
    """Durations in seconds, and the counts of the independent comparison."""

    decisions: int = 0
    folded_ahead: int = 0
    warm_s: float = 0.0
    #: From the assignment until all partitions that moved to the replica are readable.
    moved_s: float = 0.0
    #: From the death of the owner until all partitions are readable on the replica, and until they are assigned to it.
    taken_over_s: float = 0.0
    noticed_s: float = 0.0
    #: Records that the replica had not folded when the owner died.
    behind: int = 0
    counts: dict[str, int] = field(default_factory=dict)


async def run(site: Site, decisions: int) -> Report:
    """Runs the scenario on an open site. Set this process's session time-out to the site's first."""
    report = Report()
    owner = site.start("w0")
    await site.wait_started("w0")
    facts = decisions * 10 // 9
    await site.feed(facts, aggregates=facts // 4, seconds=facts / 40_000)
    await site.wait_drained(seconds=STEP_S)
    report.decisions = sum((await site.ends(site.log)).values())
    loading = asyncio.create_task(site.feed(LOAD_PER_S * LOAD_S, aggregates=LOAD_PER_S * 15, seconds=LOAD_S))
    replica = _replica(site)
    standby = replica.standby
    assert standby is not None
    try:
        began = time.monotonic()
        starting = asyncio.create_task(replica.start(PARTITIONS))
        await _until(lambda: replica.app.consumer is not None and bool(replica.epoch))
        report.warm_s, report.folded_ahead = time.monotonic() - began, standby.folded
        await _until(lambda: bool(replica.app.consumer.assignment()))
        began = time.monotonic()
        await _until(lambda: replica.ready)
        report.moved_s = time.monotonic() - began
        await starting
        await _until(lambda: bool(standby.positions) and max(standby.behind.values()) < LOAD_PER_S)
        mine = len(replica._owned())
        assert 0 < mine < PARTITIONS, "owner and replica share the partitions"
        assert len(standby.positions) == PARTITIONS - mine, "the replica follows the other partitions"
        report.behind = sum(standby.behind.values())
        assert not loading.done(), "the load ended too early"
        owner.kill()
        began = time.monotonic()
        await _until(lambda: len(replica.app.consumer.assignment()) >= 2 * PARTITIONS)
        report.noticed_s = time.monotonic() - began
        await _until(lambda: len(replica._owned()) == PARTITIONS)
        report.taken_over_s = time.monotonic() - began
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await site.wait_drained(seconds=STEP_S)
    finally:
        await replica.stop()
    report.counts = await site.settled_counts()
    return report


def _replica(site: Site) -> Decider[Counter]:
    # In this process, so that the test can read its state.
    connection = Connection(site.kafka, "w1", site.directory / "w1")
    codec: Codec[Counter] = Codec.of("counting-1", Counter)
    return Decider(site.inbox.readers[0], site.inbox, site.log, Counting(), connection, codec)


async def _until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await wait_for_async(holds, seconds=STEP_S, every=0.01)


async def _run_with_broker(decisions: int) -> Report:
    base.SESSION_S = SESSION_S
    broker = Broker()
    with tempfile.TemporaryDirectory() as directory:
        await asyncio.to_thread(broker.start, Path(directory) / "kafka")
        try:
            async with Site(broker.bootstrap, Path(directory) / "site") as site:
                return await run(site, decisions)
        finally:
            await asyncio.to_thread(broker.stop)


def main() -> int:
    """Prints the report. Returns 0 if the log is exact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=DECISIONS)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for noisy in ("aiokafka", "faust", "mode"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    report = asyncio.run(_run_with_broker(given.decisions))
    print(json.dumps({**asdict(report), "exact": exact(report.counts)}))
    return 0 if exact(report.counts) else 1


if __name__ == "__main__":
    sys.exit(main())
