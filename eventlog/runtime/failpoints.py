"""Named steps between a fetch and a commit at which a test may kill the process. Costs nothing when none is armed.

`EVENTLOG_CRASH_AT=step:n` kills the process with SIGKILL when it passes a step for the n-th time. Must never be armed
outside of tests.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "EVENTLOG_CRASH_AT"

#: All steps: from the start to a batch, in the order in which one passes them, and what goes on beside.
STEPS = (
    "state opened, not compared",
    "start read, log's end not",
    "changelog folded",
    "partition recovered",
    "batch fetched, not delivered",
    "batch delivered",
    "record decided, batch not",
    "batch decided, nothing sent",
    "output sent, not acknowledged",
    "output acknowledged, state not told",
    "output acknowledged, input not",
    "input acknowledged, not committed",
    "offsets due, not committed",
    "offsets committed",
    "tick due, not sent",
    "tick sent, not acknowledged",
    "checkpoint begun, not encoded",
    "checkpoint encoded, not written",
    "checkpoint written",
    "partitions revoked",
    "partitions drained",
)

armed = False
_step = ""
_left = 0
_signal = signal.SIGKILL


def arm(where: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Arms `step:n` with what the process is sent there. Raises ValueError when there is no such step."""
    global armed, _step, _left, _signal
    step, _, count = where.rpartition(":")
    if step not in STEPS:
        raise ValueError(f"{VARIABLE} names no step: {step!r}; there are {', '.join(STEPS)}")
    armed, _step, _left, _signal = True, step, int(count), number


def passed(step: str) -> None:
    """To be called at a step, as `if crashpoints.armed: crashpoints.passed("…")`."""
    global _left  # noqa: PLW0603 - one process, one death
    if step == _step:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), _signal)


if os.environ.get(VARIABLE):
    arm(os.environ[VARIABLE])
