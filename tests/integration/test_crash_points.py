"""A sequencer, effects and a projection that crash at any step between a fetch and a commit lose and change nothing.

Workers crash one after the other, each at a step of its own, and the next one continues. The output is compared with
the output that the source requires: nothing missing, extra or out of order, and duplicates byte-identical. Deciders and
timers are tested so in test_kernel_exactness.py.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

from eventlog.admin.topic_creation import create_topics
from eventlog.processors.base import Connection
from eventlog.processors.projection import Projection
from eventlog.records.topic_spec import TopicSpec, dead_letter_topic
from tests.chaos.kernel.copying import KIND, OffsetsFolding, copy_of, is_undecodable
from tests.chaos.kernel.launch import WorkerProcess
from tests.chaos.kernel.refold import read
from tests.chaos.kernel.run import PARTITIONS
from tests.chaos.kernel.site import Site
from tests.waiting import wait_for_async

#: Failpoints with the pass at which they abort: not the first record or call, but one in the middle of a batch.
STEPS = (
    "batch fetched, not delivered:1",
    "batch delivered:1",
    "record decided, batch not:20",
    "batch decided, nothing sent:1",
    "output sent, not acknowledged:1",
    "output acknowledged, input not:1",
    "input acknowledged, not committed:1",
    "offsets due, not committed:1",
    "offsets committed:1",
)
#: Failpoints that are passed when another worker joins.
AT_REBALANCE = "partitions revoked:1"


async def test_a_crash_at_any_step_leaves_the_output_exact(kafka_broker: str, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as chains:
        for kind in ("sequencer", "effects", "projection"):
            chains.create_task(_crashes(kafka_broker, tmp_path / kind, kind))


async def _crashes(kafka: str, directory: Path, kind: str) -> None:
    async with Site(kafka, directory, {KIND: kind}) as site:
        dead = dead_letter_topic(site.inbox, site.inbox.writer)
        await create_topics(kafka, [dead], partitions=PARTITIONS, replication=1)
        last = "nothing"
        for step in (*STEPS, AT_REBALANCE):
            worker = await _exact_after(last, site, kind, dead, arm=step)
            await site.arm(worker)
            if step == AT_REBALANCE:
                site.start("w1")
            await site.feed()
            assert await site.wait_exit(worker) == -9, f"not killed at: {step}\n{site.log_of('w0').read_text()}"
            last = step
        worker = await _exact_after(last, site, kind, dead)
        if kind == "projection":
            worker.kill()
            await _folded(site)


async def _exact_after(step: str, site: Site, kind: str, dead: TopicSpec, arm: str = "") -> WorkerProcess:
    worker = site.start(arm=arm)
    await site.feed()
    await site.wait_drained()
    topics = await asyncio.gather(*(read(site.kafka, one.name, PARTITIONS) for one in (site.inbox, site.log, dead)))
    for source, made, dead_letters in zip(*topics, strict=True):
        bad = [record for record in source if is_undecodable(record)] if kind != "effects" else []
        good = [record for record in source if record not in bad] if kind != "projection" else []
        assert _without_repeats(dead_letters) == [(one.key, one.value) for one in bad], (kind, step)
        # Lanes are independent: effects are ordered for each key only.
        by_key = (lambda one: one[0]) if kind == "effects" else (lambda one: b"")
        wanted = [(one.key, copy_of(one)) for one in good]
        assert sorted(_without_repeats(made), key=by_key) == sorted(wanted, key=by_key), (kind, step)
    return worker


def _without_repeats(records: list[Any]) -> list[tuple[bytes, bytes]]:
    """Keys and values without duplicates. A duplicate with other headers counts as new."""
    return [(key, value) for key, value, _ in dict.fromkeys((one.key, one.value, one.headers) for one in records)]


async def _folded(site: Site) -> None:
    """A projection in this process, which shares the partitions with the worker."""
    wanted: defaultdict[str, list[int]] = defaultdict(list)
    connection = Connection(site.kafka, "w0", site.directory / "w0")
    projection = Projection(site.inbox.readers[0], [site.inbox], site.inbox.writer, OffsetsFolding(), connection)
    await projection.start(PARTITIONS)
    try:
        await wait_for_async(lambda: _ready(projection), seconds=30)
        source = await read(site.kafka, site.inbox.name, PARTITIONS)
        for tp in projection.app.consumer.assignment():
            for record in source[tp.partition]:
                if not is_undecodable(record):
                    wanted[record.key.decode()].append(record.offset)
        assert wanted
        assert {key: projection.get(key) for key in wanted} == wanted
    finally:
        await projection.stop()


async def _ready(projection: Projection[list[int]]) -> bool:
    return projection.ready
