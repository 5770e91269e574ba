"""The leases a second of one stock item: the product's stock decider, with its state in RocksDB, drains its inbox on
one core while the broker has the other.

`python -m bench.stock.leases` is its worker.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from groupbuy.inventory.v1.decisions_pb2 import StockDecision
from groupbuy.inventory.v1.inbox_pb2 import CreateStockCommand, GroupUnits, StockInput
from groupbuy.log.v1.log_pb2 import Source

from bench.broker import append, new_producer
from bench.command import ROOT, worker_command, worker_parser
from bench.fold.worker import Meter, drain
from eventlog.admin.topic_creation import create_topics
from eventlog.processors.base import Connection
from eventlog.processors.decider import Decider
from eventlog.records.topic_spec import FOR_EVER, TopicSpec
from services.inventory.domain.stock.domain import StockDomain
from services.inventory.processors import codec

TAG = os.environ.setdefault("BENCH_TAG", str(os.getpid()))
DECIDER = f"groupbuy.bench{TAG}.stock"
INBOX = TopicSpec(f"bench{TAG}.stock-inbox", StockInput, "stock", "bench", (DECIDER,), FOR_EVER)
LOG = TopicSpec(f"bench{TAG}.stock", StockDecision, "stock", "bench", (), FOR_EVER)
STOCK = "drop"
#: Open groups at a time: each asks for a lease of one piece, sells it, and closes.
OPEN_GROUPS = 1_000
SOURCES = 16


def inputs(count: int) -> Iterator[tuple[str, bytes]]:
    """Yields `count` inputs of one stock item: a request of a group, and its end OPEN_GROUPS requests later."""
    total = CreateStockCommand(request_id="create", total=count, lease_divisor=8)
    yield STOCK, StockInput(create=total).SerializeToString()
    for number in range(count - 1):
        units = GroupUnits(cause=number)
        group, closing = divmod(number, 2)
        if closing and group >= OPEN_GROUPS:
            units.group, units.sold, units.closed = f"g{group - OPEN_GROUPS}", 1, True
        else:
            units.group, units.at_least, units.at_most = f"g{group if not closing else -group}", 1, 1
        source = Source(topic="groups.group.v1", partition=number % SOURCES, offset=number)
        yield STOCK, StockInput(source=source, group_units=units).SerializeToString()


async def _fill(bootstrap: str, count: int) -> None:
    await create_topics(bootstrap, (INBOX, LOG), partitions=1, replication=1)
    producer = new_producer(bootstrap)
    await producer.start()
    try:
        await append(producer, INBOX.name, 1, inputs(count))
    finally:
        await producer.stop()


def measure_leases(bootstrap: str, count: int) -> dict[str, Any]:
    """Decides `count` inputs and returns the figures."""
    asyncio.run(_fill(bootstrap, count))
    state = tempfile.mkdtemp(prefix="bench-stock-")
    command = worker_command("bench.stock.leases", bootstrap, 1, state)
    command += ["--count", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"the worker ended with code {done.returncode} and no figures")
    found = json.loads(lines[-1])
    print(f"{found['per_s']:,.0f} inputs/s of one stock item, {found['cpu_us_per_fact']} µs CPU each", flush=True)
    return {"leases_per_s": found["per_s"], "lease_cpu_us": found["cpu_us_per_fact"]}


async def _decide(kafka: str, state_dir: Path, meter: Meter) -> None:
    decider = Decider(DECIDER, INBOX, LOG, StockDomain(), Connection(kafka, "b0", state_dir), codec.STOCK)
    await drain(decider, 1, meter)


def main() -> None:
    """The worker: drains the inbox once and prints its figures as JSON."""
    parser = worker_parser()
    parser.add_argument("--count", type=int, required=True)
    given = parser.parse_args()
    os.sched_setaffinity(0, {1})
    logging.basicConfig(level=logging.WARNING)
    meter = Meter(given.count)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(asyncio.wait_for(_decide(given.kafka, given.state_dir, meter), 300))
    shutil.rmtree(given.state_dir, ignore_errors=True)
    print(json.dumps(meter.result()), flush=True)
    # The measurement is over; an orderly stop would only take time.
    os._exit(0)


if __name__ == "__main__":
    main()
