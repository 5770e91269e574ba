"""Kills, freezes and broker outages under load, in parts, each with an exact check at its end.

`python -m tests.chaos.run --minutes 5` prints one JSON object as its last line. It exits with 1 unless every part is
exact: no decision missing, extra or conflicting, nothing charged twice, no hold open, and the ledger equal to the
provider's statement.
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

#: The figures of a part, and whether it was exact.
Found = tuple[dict[str, object], bool]


class Part(NamedTuple):
    """One part. Its function gets the seconds and a seed, and sets up and tears down what it needs."""

    name: str
    description: str
    #: Share of the requested minutes. The parts run one after the other, and the shares add up to more than 1.
    share: float
    run: Callable[[float, int], Found]


#: Figures that are added up over the parts.
COUNTS = ("orders", "kills", "missing", "extra", "conflicting", "double_captures", "open_holds", "threads_violations")

PARTS = (
    Part("kernel", "kills, freezes, doubles, late requests and broker restarts", 0.5, kernel.part),
    Part("stalls", "a frozen broker, partitions without a leader, no log collector, a late replica", 0.4, stalls.part),
    Part("product", "orders, with kills, freezes and broker outages", 0.5, product.part),
    Part("leaderless", "orders, with half of the partitions without a leader at times", 0.4, leaderless.part),
    Part("poison", "an undecodable record in each inbox", 0.4, poison.part),
    Part("payments", "unanswered calls, late and duplicate notifications, and kills", 1.0, payments.part),
    Part("outage", "a payment provider that is down", 0.4, outage.part),
)


def run(parts: Sequence[Part], minutes: float, seed: int, say: Callable[[str], None]) -> Found:
    """Runs parts one after the other. Returns the sums and the figures of each part, and whether all were exact."""
    found: dict[str, dict[str, object]] = {}
    good = True
    for part in parts:
        seconds = minutes * 60 * part.share
        say(f"{part.name}: {seconds:g} seconds of {part.description}")
        figures, exact = part.run(seconds, seed)
        found[part.name] = figures
        good = good and exact
        say(json.dumps({part.name: figures, "exact": exact}))
    whole: dict[str, object] = {
        name: sum(int(str(figures.get(name, 0))) for figures in found.values()) for name in COUNTS
    }
    # The parts of the kernel have no ledger.
    whole["books_equal"] = all(figures.get("books_equal", True) for figures in found.values())
    return {**whole, **found}, good


def main() -> None:
    """Runs the parts, and exits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=[part.name for part in PARTS], help="run one part, for its share of the time")
    given = parser.parse_args()
    # Inherited by every process of a part: a call on a wrong thread ends the process.
    os.environ.setdefault(THREAD_CHECKS, "1")
    logging.basicConfig(level=logging.ERROR)
    # The broker is down on purpose, and every client logs that repeatedly.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    parts = [part for part in PARTS if given.only in {None, part.name}]
    figures, good = run(parts, given.minutes, given.seed, lambda line: print(line, flush=True))
    print(json.dumps(figures))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
