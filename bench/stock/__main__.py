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
from bench.stock.drop import Drop, prepare, read_logs, sell, wait_home
from bench.stock.leases import measure_leases
from bench.system import system
from devstack.product import WITH_INVENTORY

#: Leases a second of one stock item on one core, with its state in RocksDB.
MIN_LEASES_PER_S = 20_000
#: Share of the seated orders that waited for a lease.
MAX_WAITING_SHARE = 0.25


def measure(drop: Drop) -> dict[str, Any]:
    """Runs the drop."""
    with system(plan=WITH_INVENTORY) as running:
        stock, campaign = prepare(running, drop)
        seen = asyncio.run(sell(running, drop, campaign))
        left = asyncio.run(wait_home(running, stock))
        found = asyncio.run(read_logs(running, drop))
    return {
        "pieces": drop.pieces,
        **found,
        **seen,
        "kills": drop.kills,
        # Pieces that nobody bought although there were ten orders for each.
        "stranded": left.free,
        "books_equal": left.sold == found["sold"] == found["charged"] and left.free + left.sold == drop.pieces,
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pieces", type=int, default=1_000)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--window", type=int, default=60, help="seconds in which a group may form")
    parser.add_argument("--at-once", type=int, default=200, help="groups that order at a time, and calls in flight")
    parser.add_argument("--divisor", type=int, default=1, help="divisor of the size of a lease")
    parser.add_argument("--leases", type=int, default=200_000, help="requests that the stock item decides; 0: none")
    given = parser.parse_args()
    leases: dict[str, Any] = {}
    if given.leases:
        with kafka(core=0) as bootstrap:
            leases = measure_leases(bootstrap, given.leases)
    found = measure(Drop(given.pieces, given.orders, given.kills, given.window, given.at_once, given.divisor))
    conclude(
        found | leases,
        found["oversold"] == 0,
        found["books_equal"],
        found["waiting_share"] <= MAX_WAITING_SHARE,
        leases.get("leases_per_s", MIN_LEASES_PER_S) >= MIN_LEASES_PER_S,
    )


if __name__ == "__main__":
    main()
