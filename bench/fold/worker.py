"""A worker of bench-fold on one core: drains a topic once and prints how long it took. It has four modes.

`ours` is the product's group decider with its state in RocksDB. `sequencer` is the groups sequencer.
`router` is the inventory service's router. `stock` has the
same group rules in a stock Faust agent with its state in a dict: one message at a time, output is not awaited.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import faust
from groupbuy.groups.v1.campaigns_pb2 import Campaign

from bench.command import worker_parser
from bench.evening import campaign
from bench.fold.topics import (
    ALLOWANCES,
    DECIDER,
    DECISIONS,
    FACTS,
    INBOX,
    LOG,
    ROUTER,
    SEQUENCED,
    SEQUENCER,
    STOCKS,
)
from bench.memory import rss_mb
from eventlog.core.aggregate import Aggregate, decide
from eventlog.processors.base import Connection, Processor
from eventlog.processors.decider import Decider
from eventlog.processors.router import Router
from eventlog.processors.sequencer import Sequencer
from eventlog.records.codec import Codec
from services.groups.domain.domain import GroupDomain
from services.groups.domain.model import State
from services.groups.processors.codec import decode, encode
from services.groups.processors.sequencer import GroupInboxMapper
from services.inventory.processors.router import InventoryRoutes


class Meter:
    """Wall time and CPU time of this process from the first record to the last."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.done = 0
        self._began: tuple[float, float] | None = None
        self.finished = asyncio.Event()

    def saw(self, records: int) -> None:
        """Counts records; the first call starts the clock."""
        if self._began is None:
            self._began = (time.perf_counter(), time.process_time())
        self.done += records
        if self.done >= self.count:
            self.finished.set()

    def result(self) -> dict[str, float]:
        """Figures of the whole run."""
        assert self._began is not None
        wall, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        return {
            "per_s": round(self.done / wall),
            "cpu_us_per_fact": round(cpu / self.done * 1e6, 1),
            "peak_rss_mb": rss_mb(os.getpid()),
            "seconds": round(wall, 2),
        }


async def drain(processor: Processor, partitions: int, meter: Meter) -> None:
    """Runs a processor until it has handled and acknowledged every record."""
    handle = processor.handle
    # Output is awaited at the end: awaiting it batch by batch would stall the pipeline.
    pending: list[Any] = []

    async def pipelined(batch: Any) -> Any:
        meter.saw(0)
        written = await handle(batch)
        if written is not None:
            meter.saw(len(batch.records))
            pending.extend(written)
        return written

    processor.handle = pipelined  # type: ignore[method-assign]
    await processor.start(partitions)
    await meter.finished.wait()
    await asyncio.gather(*pending)


async def ours(kafka: str, partitions: int, state_dir: Path, meter: Meter) -> None:
    """Runs the product's decider."""
    codec: Codec[State] = Codec("bench-2", encode, decode)
    await drain(
        Decider(DECIDER, INBOX, LOG, GroupDomain(), Connection(kafka, "b0", state_dir), codec), partitions, meter
    )


async def sequencer(kafka: str, partitions: int, state_dir: Path, meter: Meter) -> None:
    """Runs the product's sequencer."""
    offer = campaign()

    async def get_latest(key: str) -> Campaign | None:
        return offer

    mapper = GroupInboxMapper(FACTS.name, lambda key: offer, get_latest)
    await drain(
        Sequencer(SEQUENCER, (FACTS,), SEQUENCED, mapper, Connection(kafka, "b1", state_dir)), partitions, meter
    )


async def router(kafka: str, partitions: int, state_dir: Path, meter: Meter) -> None:
    """Runs the product's router of group decisions to stock items and allowances."""
    routes = InventoryRoutes(STOCKS.name, ALLOWANCES.name)
    await drain(Router(ROUTER, (DECISIONS,), routes, Connection(kafka, "b2", state_dir)), partitions, meter)


async def stock(kafka: str, partitions: int, state_dir: Path, meter: Meter) -> None:
    """Runs the same rules on stock Faust."""
    app = faust.App(
        f"bench.stock.{os.getpid()}",
        broker=f"aiokafka://{kafka}",
        store="memory://",
        datadir=str(state_dir),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        broker_max_poll_records=10_000,
        stream_buffer_maxsize=16_384,
    )
    inbox = app.topic(INBOX.name, key_serializer="raw", value_serializer="raw")
    log = app.topic(LOG.name, key_serializer="raw", value_serializer="raw")
    domain = GroupDomain()
    groups: dict[str, Aggregate[State]] = {}

    @app.agent(inbox)  # type: ignore[untyped-decorator, unused-ignore]
    async def fold(stream: Any) -> None:
        async for event in stream.events():
            key = event.key.decode()
            group = groups.get(key) or groups.setdefault(key, Aggregate(key, domain.initial(key)))
            at_ms = int(event.message.timestamp * 1000)
            decision = decide(domain, group, event.value, event.message.offset, at_ms)
            if decision is not None:
                await log.send(key=event.key, value=decision)
            meter.saw(1)

    app.finalize()
    await app.start()
    await meter.finished.wait()


MODES = {"ours": ours, "sequencer": sequencer, "router": router, "stock": stock}


def main() -> None:
    """Runs one mode and prints its figures as JSON."""
    parser = worker_parser()
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--core", type=int, default=-1)
    given = parser.parse_args()
    if given.core >= 0:
        os.sched_setaffinity(0, {given.core})
    logging.basicConfig(level=logging.WARNING)

    async def run() -> dict[str, float]:
        meter = Meter(given.count)
        await MODES[given.mode](given.kafka, given.partitions, given.state_dir, meter)
        return meter.result()

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    found = loop.run_until_complete(asyncio.wait_for(run(), 300))
    shutil.rmtree(given.state_dir, ignore_errors=True)
    print(json.dumps(found), flush=True)
    # The measurement is over; an orderly stop would only take time.
    os._exit(0)


if __name__ == "__main__":
    main()
