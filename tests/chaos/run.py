"""Kills, freezes and broker outages under load, part by part, each with an exact check of its own at the end.

`python -m tests.chaos.run --minutes 5` prints one JSON object as its last line and exits 1 unless all of it is exact:
no decision missing, extra or in conflict, nothing charged twice, no hold left open, and the provider's books are ours.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from eventlog.faust.thread_checks import VARIABLE as THREAD_CHECKS
from tests.chaos import leaderless, outage, payments, poison, product
from tests.chaos.kernel import part as kernel
from tests.chaos.kernel import stalls

#: What a part found, by name, and whether it was exact.
Found = tuple[dict[str, object], bool]


class Part(NamedTuple):
    """One part: it is given its seconds and a seed, and sets up and takes down whatever it needs."""

    name: str
    does: str
    #: Its seconds, as a share of the minutes asked for. They come one after the other, and add up to more than that.
    share: float
    play: Callable[[float, int], Found]


#: Added up over all parts that count them.
COUNTS = ("orders", "kills", "missing", "extra", "conflicting", "double_captures", "open_holds", "threads_violations")

PARTS = (
    Part("kernel", "kills, freezes, doubles, late requests and broker restarts", 0.5, kernel.part),
    Part("stalls", "a frozen broker, partitions without a leader, no log collector, a late replica", 0.4, stalls.part),
    Part("product", "orders, with everything going wrong", 0.5, product.part),
    Part("leaderless", "orders, with half of the partitions without a leader now and then", 0.4, leaderless.part),
    Part("poison", "a record in each inbox that no build decodes", 0.4, poison.part),
    Part("payments", "calls without an answer, late and double notifications, and kills", 1.0, payments.part),
    Part("outage", "a payment provider that is down", 0.4, outage.part),
)


def run(parts: Sequence[Part], minutes: float, seed: int, say: Callable[[str], None]) -> Found:
    """All parts, one after the other; the figures of each under its name, and those of the whole beside them."""
    found: dict[str, dict[str, object]] = {}
    good = True
    for part in parts:
        seconds = minutes * 60 * part.share
        say(f"{part.name}: {seconds:g} seconds of {part.does}")
        figures, exact = part.play(seconds, seed)
        found[part.name] = figures
        good = good and exact
        say(json.dumps({part.name: figures, "exact": exact}))
    whole: dict[str, object] = {
        name: sum(int(str(figures.get(name, 0))) for figures in found.values()) for name in COUNTS
    }
    # The kernel keeps no books.
    whole["books_equal"] = all(figures.get("books_equal", True) for figures in found.values())
    return {**whole, **found}, good


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=[part.name for part in PARTS], help="one part, with its share of the time")
    given = parser.parse_args()
    # Every process of a part inherits it: a call on a wrong thread ends the process.
    os.environ.setdefault(THREAD_CHECKS, "1")
    logging.basicConfig(level=logging.ERROR)
    # The broker is away on purpose, and every client says so again and again.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    parts = [part for part in PARTS if given.only in {None, part.name}]
    figures, good = run(parts, given.minutes, given.seed, lambda line: print(line, flush=True))
    print(json.dumps(figures))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
