"""`make first-hour`: runs the steps in a fresh clone of HEAD and prints a table, and a last line of JSON.

Exits with 1 if a step failed. Real stacks run at the default ports, so no other `make up` may run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from tests.first_hour import by_hand, environments, installing, secured, together
from tests.first_hour.checkout import StepFailed, StepSkipped
from tests.first_hour.hour import Hour, Step

#: Steps that share a running stack stand together.
STEPS = (*installing.STEPS, *by_hand.STEPS, *together.STEPS, *secured.STEPS, *environments.STEPS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the steps. Returns the exit code."""
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(prog="make first-hour", description="The first hour of a newcomer.")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"some of: {', '.join(names)}; repeatable")
    parser.add_argument("--checkout", type=Path, help="an existing clone, in place of a fresh one of HEAD")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.only or ()) - set(names))
    if unknown:
        parser.error(f"unknown step: {', '.join(unknown)}; there are {', '.join(names)}")
    chosen = [step for step in STEPS if not options.only or step.name in options.only]
    begin_s = time.monotonic()
    with ExitStack() as leaving:
        place = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="first-hour-")))
        # For the step with another user.
        place.chmod(0o755)
        existing = options.checkout.absolute() if options.checkout else None
        hour = leaving.enter_context(closing(Hour(place, existing)))
        results = [_run(hour, step) for step in chosen]
    failed = results.count("FAILED")
    print(json.dumps({"steps": len(chosen), "failed": failed, "seconds": round(time.monotonic() - begin_s)}))
    return 1 if failed else 0


def _run(hour: Hour, step: Step) -> str:
    """Runs one step, prints its row, and returns its result."""
    begin_s, reason = time.monotonic(), ""
    try:
        hour.begin(step)
        step.run(hour)
        result = "ok"
    except StepSkipped as skipped:
        result, reason = "skipped", str(skipped)
    except (StepFailed, OSError, ValueError, LookupError) as failure:
        result, reason = "FAILED", str(failure) if isinstance(failure, StepFailed) else repr(failure)
    print(f"{result:8} {time.monotonic() - begin_s:5.0f} s  {step.name:20} {step.what}", flush=True)
    if reason:
        print("".join(f"    {line}\n" for line in reason.splitlines()), end="", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
