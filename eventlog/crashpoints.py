"""Named steps between a fetch and a commit at which a test may kill the process. Costs nothing when none is armed.

`EVENTLOG_CRASH_AT=step:n` kills the process with SIGKILL when it passes a step for the n-th time. Must never be armed
outside of tests.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "EVENTLOG_CRASH_AT"

#: All steps, in the order in which a batch passes them.
STEPS = (
    "batch delivered",
    "batch decided, nothing sent",
    "output sent, not acknowledged",
    "output acknowledged, input not",
    "input acknowledged, not committed",
    "offsets committed",
    "checkpoint encoded, not written",
    "checkpoint written",
    "changelog folded",
    "partition recovered",
)

_step, _, _count = os.environ.get(VARIABLE, "").rpartition(":")
armed = bool(_step)
_left = int(_count) if armed else 0
if armed and _step not in STEPS:
    raise ValueError(f"{VARIABLE} names no step: {_step!r}; there are {', '.join(STEPS)}")


def passed(step: str) -> None:
    """To be called at a step, as `if crashpoints.armed: crashpoints.passed("…")`."""
    global _left  # noqa: PLW0603 - one process, one death
    if step == _step:
        _left -= 1
        if _left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
