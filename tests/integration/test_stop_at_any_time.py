"""A process that is stopped at any time, also during its start, exits soon with code 0 and loses nothing."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from tests.chaos.kernel.run import exact
from tests.chaos.kernel.site import Site
from tests.waiting import wait_for_async

#: Log lines of every worker with a log to fold and an inbox to read.
STEPS = (
    "start read, log's end not",
    "changelog folded",
    "partition recovered",
    "batch fetched, not delivered",
    "batch delivered",
    "batch decided, nothing sent",
    "output sent, not acknowledged",
    "output acknowledged, input not",
    "input acknowledged, not committed",
    "offsets due, not committed",
    "offsets committed",
)
#: Log line at the start of the consumer thread.
BEGINS = "BatchConsumerThread]: Starting..."
#: Less than the time after which the group removes a silent member.
ENDS_S = 5.0


async def test_stopped_at_any_step_of_a_start(kafka_broker: str, tmp_path: Path) -> None:
    async with Site(kafka_broker, tmp_path) as site:
        await site.feed()
        first = site.start()
        await site.wait_drained()
        first.kill()
        for step in STEPS:
            # The whole log to fold, and some inputs to read.
            site.delete_state("w0")
            await site.feed()
            assert await site.wait_exit(site.start(stop_at=f"{step}:1")) == 0, step
        await _goes_on(site)


async def test_stopped_right_after_its_start(kafka_broker: str, tmp_path: Path) -> None:
    async with Site(kafka_broker, tmp_path) as site:
        for times in range(1, 6):
            await site.feed()
            worker = site.start()
            await site.wait_for_log("w0", BEGINS, times=times)
            worker.send_signal(signal.SIGTERM)
            assert await site.wait_exit(worker) == 0
        await _goes_on(site)


async def test_stopped_while_its_group_waits_for_another_member(kafka_broker: str, tmp_path: Path) -> None:
    async with Site(kafka_broker, tmp_path) as site:
        other = site.start("w1")
        await site.wait_started("w1")
        other.send_signal(signal.SIGSTOP)
        worker = site.start()
        await wait_for_async(lambda: _rebalances(site), seconds=20, every=0.05)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, ENDS_S), "it waits as the others do"
        assert worker.code == 0
        other.send_signal(signal.SIGCONT)
        await site.feed()
        await _goes_on(site)


async def _rebalances(site: Site) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await admin.start()
    try:
        (described,) = await admin.describe_consumer_groups([site.inbox.readers[0]])
    finally:
        await admin.close()
    return bool(described.groups[0][2] == "PreparingRebalance")


async def _goes_on(site: Site) -> None:
    site.start()
    await site.wait_drained()
    counts = await site.settled_counts()
    assert exact(counts), counts
