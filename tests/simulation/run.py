"""The simulator's command line: many seeds on all cores, or one with a readable trace. See `--help`.

With many seeds, the last line of output is a JSON object. Exit code 1: a guarantee was violated, or a long run did not
meet everything that the coverage lists.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.histories.coverage import Coverage
from tests.simulation.histories.plan import Plan, history_plan
from tests.simulation.histories.play import play, prepared
from tests.simulation.histories.shrink import read, shrink, spell

#: Seeds that a worker plays before it reports.
CHUNK = 20
#: A run of so many seeds has to meet everything that the coverage lists.
LONG = 2_000
#: Number of failing seeds that are printed with their history, and number of its last lines.
SHOWN, LINES = 3, 40


@dataclass(slots=True)
class Tally:
    """The figures of some seeds."""

    counts: list[tuple[tuple[str, str], int]] = field(default_factory=list)
    inputs: int = 0
    #: Number of inputs of the shortest history.
    least: int = 1 << 30
    failures: list[tuple[int, str]] = field(default_factory=list)


def play_seeds(first: int, after: int) -> Tally:
    """Plays the seeds from `first` up to, not including, `after`."""
    coverage, tally = Coverage(), Tally()
    gc.disable()
    # Excludes all modules from later garbage collections.
    gc.freeze()
    with prepared(coverage):
        for seed in range(first, after):
            history = history_plan(seed)
            played = play(history, coverage)
            tally.inputs += played.inputs
            tally.least = min(tally.least, played.inputs)
            if played.violation is not None:
                tally.failures.append((seed, str(played.violation)))
            elif played.inputs < history.min_inputs:
                tally.failures.append((seed, f"a history of {played.inputs} inputs only"))
            del played
            # A world has reference cycles.
            gc.collect() if seed % 10 == 9 else None
    tally.counts = list(coverage.counts.items())
    return tally


def run_many(first: int, seeds: int, jobs: int) -> int:
    """Plays many seeds. Prints the coverage and one line of figures."""
    began = time.monotonic()
    coverage, failures, inputs, least, done = Coverage(), list[tuple[int, str]](), 0, 1 << 30, 0
    for tally, size in _tallies(first, seeds, jobs):
        coverage.add(tally.counts)
        failures += tally.failures
        inputs += tally.inputs
        least = min(least, tally.least)
        done += size
        seconds = time.monotonic() - began
        if done % 500 < size or done == seeds:
            print(f"{done:,} of {seeds:,} seeds, {len(failures)} failed, {done / seconds:.0f}/s", file=sys.stderr)
    seconds = time.monotonic() - began
    print("\n".join(coverage.lines()))
    for seed, violation in sorted(failures)[:SHOWN]:
        print(f"\nseed {seed}: {violation}\n  make simulate SEED={seed}")
        print("\n".join(_trace(history_plan(seed))[-LINES:]))
    missing = coverage.missing()
    figures = {
        "seeds": seeds,
        "failed": len(failures),
        "inputs": inputs,
        "least_inputs": least,
        "seconds": round(seconds, 1),
        "seeds_per_s": round(seeds / seconds, 1),
        "zero_coverage": missing,
        "failing_seeds": sorted(seed for seed, _ in failures)[:100],
    }
    print(json.dumps(figures))
    return 1 if failures or (missing and seeds >= LONG) else 0


def _tallies(first: int, seeds: int, jobs: int) -> Iterator[tuple[Tally, int]]:
    after = first + seeds
    starts = range(first, after, CHUNK)
    ends = [min(start + CHUNK, after) for start in starts]
    with ProcessPoolExecutor(jobs) as pool:
        for tally, start, end in zip(pool.map(play_seeds, starts, ends), starts, ends, strict=True):
            yield tally, end - start


def _trace(which: Plan) -> list[str]:
    lines: list[str] = []
    with prepared(Coverage()):
        played = play(which, Coverage(), lines.append)
    verdict = str(played.violation) if played.violation is not None else "no violation"
    return [*lines, f"{verdict} ({played.inputs} inputs, {played.steps} steps)"]


def run_one(seed: int, keep: str, *, small: bool) -> int:
    """Prints the history of one seed. With `small`, shrinks it first to one that violates the same guarantee."""
    which = history_plan(seed)
    if keep:
        which = which.keeping(read(keep))
    with prepared(Coverage()):
        violation = play(which, Coverage()).violation
        if small and violation is not None:
            promise = violation.promise

            def fails(candidate: Plan) -> bool:
                found = play(candidate, Coverage()).violation
                return found is not None and found.promise == promise

            kept = shrink(which, fails)
            which = which.keeping(frozenset(kept))
            if not keep:
                print(f"again: python -m tests.simulation.run --seed {seed} --keep {spell(kept)}")
    print("\n".join(_trace(which)))
    return 1 if violation is not None else 0


def main() -> int:
    """Reads the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="number of seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    parser.add_argument("--seed", type=int, help="play one seed and print its trace")
    parser.add_argument("--shrink", action="store_true", help="with --seed: shrink a failing history")
    parser.add_argument(
        "--keep", default="", help="with --seed: play these acts and faults only, as printed by --shrink"
    )
    options = parser.parse_args()
    if options.seed is not None:
        return run_one(options.seed, options.keep, small=options.shrink)
    return run_many(options.first, options.seeds, options.jobs)


if __name__ == "__main__":
    sys.exit(main())
