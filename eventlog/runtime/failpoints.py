"""Failpoints: named steps between a fetch and a commit at which a test kills the process.

`EVENTLOG_FAILPOINT=step:n` kills the process with SIGKILL when it passes the step for the n-th time. For tests only. A
step costs one look at `armed` while no failpoint is armed.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "EVENTLOG_FAILPOINT"

#: All steps, from the start to a batch, in the order in which a process passes them, then those of tasks beside it.
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
    "output acknowledged, state not updated",
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
    """Arms the failpoint `step:n` with the signal to send. Raises ValueError if the step does not exist."""
    global armed, _step, _left, _signal
    step, _, count = where.rpartition(":")
    if step not in STEPS:
        raise ValueError(f"{VARIABLE} names no step: {step!r}; there are {', '.join(STEPS)}")
    armed, _step, _left, _signal = True, step, int(count), number


def passed(step: str) -> None:
    """Counts a step and sends the signal at the n-th. Call it as `if failpoints.armed: failpoints.passed("…")`."""
    global _left  # noqa: PLW0603 - one failpoint a process
    if step == _step:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), _signal)


if os.environ.get(VARIABLE):
    arm(os.environ[VARIABLE])
