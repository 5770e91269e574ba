"""bench-stock: a drop with ten times as many orders as pieces, while processes are killed; and the leases a second that
one stock item decides.

Real broker and real services. No piece is sold twice, every piece is free or sold at the end, and what is sold is what
was charged. Prints one JSON object as its last line, and exits with 1 if a claim fails.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from bench.broker import kafka
from bench.command import conclude
from bench.stock.drop import DRAIN_S, Drop, prepare, read_logs, sell, wait_home
from bench.stock.leases import measure_leases
from bench.system import system
from devstack.product import WITH_INVENTORY
from groupbuy_testing.running import RunningStack
from ops.audit import Report, audit, wait_quiet

#: Leases a second of one stock item on one core, with its state in RocksDB.
MIN_LEASES_PER_S = 20_000
#: Milliseconds until the orders service knows that no piece is free. A run with kills waits for restarts, and is not
#: compared.
MAX_SOLD_OUT_KNOWN_MS = 300
#: Milliseconds until an order that waited for pieces has its seat, at a rate that the machine carries.
MAX_SEAT_P99_MS = 250
#: Share of the seated orders that waited for a lease.
MAX_WAITING_SHARE = 0.25


def measure(drop: Drop) -> dict[str, Any]:
    """Runs the drop."""
    with system(plan=WITH_INVENTORY) as running:
        stock, campaign = prepare(running, drop)
        seen, offers_ms = asyncio.run(sell(running, drop, campaign))
        left = asyncio.run(wait_home(running, stock))
        found = asyncio.run(read_logs(running, drop, offers_ms))
        audited = asyncio.run(audit_all(running, drop))
    return {
        "pieces": drop.pieces,
        **found,
        **seen,
        # Pieces that nobody bought although there were ten orders for each.
        "stranded": left.free,
        "violations": audited.findings.violation_count,
        "books_equal": left.sold == found["sold"] == found["charged"] and left.free + left.sold == drop.pieces,
    }


async def audit_all(running: RunningStack, drop: Drop) -> Report:
    """Audits all logs once every group is closed and settled."""
    await wait_quiet(running.kafka, deadline_s=drop.window_s + DRAIN_S)
    return await audit(running.kafka, running.endpoints["provider"], settled=True)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pieces", type=int, default=1_000)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--window", type=int, default=60, help="seconds in which a group may form")
    parser.add_argument("--at-once", type=int, default=200, help="groups that order at a time, and calls in flight")
    parser.add_argument("--ahead", type=int, default=9, help="pieces that a group asks for ahead of its orders")
    parser.add_argument("--rate", type=int, default=0, help="orders a second; 0: as many as the system takes")
    parser.add_argument("--leases", type=int, default=200_000, help="requests that the stock item decides; 0: none")
    given = parser.parse_args()
    leases: dict[str, Any] = {}
    if given.leases:
        with kafka(core=0) as bootstrap:
            leases = measure_leases(bootstrap, given.leases)
    found = measure(Drop(given.pieces, given.orders, given.kills, given.window, given.at_once, given.ahead, given.rate))
    conclude(
        found | leases,
        found["oversold"] == 0,
        found["books_equal"],
        found["violations"] == 0,
        found["waiting_share"] <= MAX_WAITING_SHARE,
        found["kills"] > 0 or found["sold_out_known_p99_ms"] <= MAX_SOLD_OUT_KNOWN_MS,
        found["kills"] > 0 or not given.rate or found["seat_p99_ms"] <= MAX_SEAT_P99_MS,
        leases.get("leases_per_s", MIN_LEASES_PER_S) >= MIN_LEASES_PER_S,
    )


if __name__ == "__main__":
    main()
