"""`python -m tests.simulation.stock_histories --seeds 4000`: plays random sales of one stock item with faults.

Prints one JSON object as its last line. `--mutants` hunts each planted bug of mutants/inventory.py instead; a seed that
also fails without the bug does not count. `--product-only`: only the product's audit judges.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial

from tests.simulation.audit.violation import Violation
from tests.simulation.mutants.inventory import INVENTORY
from tests.simulation.mutants.planting import Mutant, planted
from tests.simulation.world.stock import StockWorld

#: Seeds to try on each planted bug.
MAX_SEEDS = 400


def failure(seed: int, bug: Mutant | None = None, *, product_only: bool = False) -> str:
    """The guarantee that a seed violates, with or without a bug; empty if there is none."""
    if bug is not None:
        with planted(bug):
            return failure(seed, product_only=product_only)
    try:
        StockWorld(seed, product_only=product_only).run()
    except Violation as violation:
        return f"{violation.promise}: {violation.what}"
    except Exception as error:  # noqa: BLE001 - a planted bug may raise anything, anywhere
        return f"nothing crashes: {type(error).__name__}: {error}"
    return ""


def hunt(bug: Mutant, most: int = MAX_SEEDS, *, product_only: bool = False) -> tuple[int, str]:
    """Number of seeds until one finds a bug, and what it violates; an empty text if none does."""
    for seed in range(most):
        caught_by = failure(seed, bug, product_only=product_only)
        if caught_by and not failure(seed):
            return seed + 1, caught_by
    return most, ""


def _figures(seed: int) -> tuple[int, str, Counter[str]]:
    world = StockWorld(seed)
    try:
        world.run()
    except Violation as violation:
        return seed, f"{violation.promise}: {violation.what}", Counter()
    books = world.auditor
    found = {
        "reserved": books.reserved,
        "sold": books.sold,
        "sold_out": books.denied,
        "limit_reached": books.denied_by_limit,
        "faults": world.faults,
    }
    return seed, "", Counter(found)


def _hunt_named(name: str, product_only: bool) -> tuple[str, int, str]:
    (bug,) = [one for one in INVENTORY if one.name == name]
    return name, *hunt(bug, product_only=product_only)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the histories or the hunt. Returns 1 if a history fails or a bug survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.stock_histories", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--mutants", action="store_true", help="hunt the planted bugs")
    parser.add_argument("--product-only", action="store_true", help="only the product's audit finds bugs")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    failed: list[str] = []
    totals: Counter[str] = Counter()
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        if options.mutants:
            hunted = partial(_hunt_named, product_only=options.product_only)
            for name, seeds, caught_by in pool.imap(hunted, [one.name for one in INVENTORY], chunksize=1):
                failed += [] if caught_by else [name]
                print(f"{name:<32} {seeds:>4} {caught_by or 'NOTHING':.90}", flush=True)
            found: dict[str, object] = {"planted": len(INVENTORY), "caught": len(INVENTORY) - len(failed)}
        else:
            for seed, violated, figures in pool.imap_unordered(_figures, range(options.seeds), chunksize=8):
                totals += figures
                if violated:
                    failed.append(str(seed))
                    print(f"seed {seed}: {violated}", flush=True)
            found = {"seeds": options.seeds, **totals}
    print(json.dumps(found | {"failed": failed, "seconds": round(time.monotonic() - began, 1)}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
