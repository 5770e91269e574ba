"""Checks that the simulation finds planted bugs. Each bug has a process of its own, which runs seeds until one fails.

A seed that also fails without the bug does not count. Bugs where the simulation does not reach name a file of unit
tests instead, which has to pass without the bug and to fail with it.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any, NamedTuple

import pytest

from tests.simulation import stock_histories
from tests.simulation.audit.violation import Violation
from tests.simulation.histories.coverage import Coverage
from tests.simulation.histories.plan import Plan, plan
from tests.simulation.mutants.catalogue import IN_SALES, MUTANTS
from tests.simulation.mutants.defects import defective_rules
from tests.simulation.mutants.planting import Mutant, StaleMutant, planted
from tests.simulation.world.world import World

#: Most bugs are found by the first seeds. Some need several faults at once.
MAX_SEEDS = 1_000
#: CPU time after which a history counts as hanging. A usual one takes a thirtieth of a second.
MAX_CPU_S = 10


#: (seed, bug) -> the violated guarantee; empty if there is none.
Run = Callable[[int, Mutant | None], str]


class Hangs(BaseException):
    """A history does not end. It is no Exception, so that the rules under test can't catch it."""


class Found(NamedTuple):
    """The result of the search for one planted bug."""

    name: str
    #: The violated guarantee; empty if the bug survived.
    caught_by: str
    #: Number of seeds that were run.
    seeds: int


def failure(seed: int, bug: Mutant | None = None) -> str:
    """The guarantee that a seed violates, with or without a bug; empty if there is none."""
    return _failure(plan(seed), bug)


def failure_of_sale(seed: int, bug: Mutant | None = None) -> str:
    """As `failure`, for the sale of a seed: in the whole system, or with a model of the payments."""
    return _failure(plan(seed, sale=True), bug) or stock_histories.failure(seed, bug)


def _failure(history: Plan, bug: Mutant | None) -> str:
    try:
        with defective_rules():
            if bug is None:
                World(history, Coverage()).run()
            else:
                with planted(bug):
                    World(history, Coverage()).run()
    except Violation as violation:
        return f"{violation.promise}: {violation.what}"
    except Hangs:
        return "it comes to rest: hangs"
    except StaleMutant:
        raise
    except Exception as error:  # noqa: BLE001 - a planted bug may raise anything, anywhere
        return f"nothing crashes: {type(error).__name__}: {error}"
    return ""


def hunt(bug: Mutant, most: int, run: Run = failure) -> Found:
    """Runs up to `most` seeds until one finds the bug."""
    for seed in range(most):
        caught_by = run(seed, bug)
        if caught_by and not run(seed, None):
            return Found(bug.name, caught_by, seed + 1)
    return Found(bug.name, "", most)


def test_failure(bug: Mutant) -> str:
    """The tests that find a bug; empty if they pass with it, or fail without it."""
    if _tests_pass(bug.tests):
        with planted(bug):
            return "" if _tests_pass(bug.tests) else bug.tests
    return ""


def _tests_pass(file: str) -> bool:
    """Runs the unit tests of a file in this process. Raises RuntimeError if they can't be run."""
    quiet = io.StringIO()
    with redirect_stdout(quiet):
        code = pytest.main(["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-p", "no:randomly", file])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"{file}: {quiet.getvalue()[-2000:]}")
    return code == pytest.ExitCode.OK


def _hunt_alone(wanted: tuple[str, int]) -> Found:
    """Hunts one bug in a child process, whose alarm signal is free."""
    signal.signal(signal.SIGVTALRM, _hangs)
    bug = MUTANTS[wanted[0]]
    try:
        if bug.tests:
            return Found(bug.name, test_failure(bug), 1)
        return hunt(bug, wanted[1], _timed(failure_of_sale if bug.name in IN_SALES else failure))
    except StaleMutant as error:
        print(error, file=sys.stderr)
        return Found(bug.name, "", 0)


def _timed(run: Run) -> Run:
    def timed(seed: int, bug: Mutant | None) -> str:
        signal.setitimer(signal.ITIMER_VIRTUAL, MAX_CPU_S)
        try:
            return run(seed, bug)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    return timed


def _hangs(number: int, frame: Any) -> None:
    raise Hangs


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the hunt. Returns 1 if any bug survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants.run", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(MUTANTS), metavar="NAME", help="this mutant alone")
    parser.add_argument("--most", type=int, default=MAX_SEEDS, help="seeds to try on each")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    options = parser.parse_args(arguments)
    names: list[str] = options.only or list(MUTANTS)
    began = time.monotonic()
    survived = []
    with multiprocessing.get_context("fork").Pool(options.jobs, maxtasksperchild=1) as pool:
        for found in pool.imap(_hunt_alone, [(name, options.most) for name in names], chunksize=1):
            if not found.caught_by:
                survived.append(found.name)
            caught_by = found.caught_by or "NOTHING"
            breaks = MUTANTS[found.name].breaks
            print(f"{found.name:<33} {breaks:<60.60} {found.seeds:>4} {caught_by:.90}", flush=True)
    figures = {
        "planted": len(names),
        "caught": len(names) - len(survived),
        "survived": survived,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(figures))
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
