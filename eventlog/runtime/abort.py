"""The end of the process with code 70 when an invariant is violated. A supervisor restarts the process.

Nothing is acknowledged, flushed or cleaned up: the state in memory may be ahead of the log.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

EXIT_CODE = 70
#: Maximum seconds that the message may delay the end. If nobody reads standard error, the process ends without it.
SHUTDOWN_GRACE_S = 0.8

#: Called after the report, for a trace of the end that the next start can read.
_at_end: list[Callable[[], None]] = []


def at_end(call: Callable[[], None]) -> None:
    """Has a function called before `abort` and `end` end the process. It is skipped if the report takes too long."""
    _at_end.append(call)


def abort(reason: str, error: BaseException | None = None, **context: object) -> NoReturn:
    """Writes the reason, the context and the traceback to standard error, and ends the process.

    Works on any thread and inside any callback. The process ends within SHUTDOWN_GRACE_S even if its output is closed,
    broken or full.
    """

    def report() -> None:
        write(f"stopping with code {EXIT_CODE}: {reason}{_context(context)}\n{_trace(error)}")

    end(report)


def end(report: Callable[[], None]) -> NoReturn:
    """Ends the process with code 70 when `report` has returned or raised, or after SHUTDOWN_GRACE_S.

    `report` runs on a thread of its own. The low-level call starts it, because Thread.start waits for the new thread
    without a limit, and for a lock that the interrupted caller may hold.
    """
    try:
        done = _thread.allocate_lock()
        done.acquire()
        _thread.start_new_thread(_run, (report, done))
        done.acquire(timeout=SHUTDOWN_GRACE_S)
    finally:
        os._exit(EXIT_CODE)


def write(text: str) -> None:
    """Writes to standard error without the logging module, whose handlers may be the cause of the error."""
    # Not the constant 2: if standard error is closed, another file or a connection may have that number.
    descriptor = sys.stderr.fileno()
    left = text.encode(errors="replace")
    while left:
        left = left[os.write(descriptor, left) :]


def _run(report: Callable[[], None], done: _thread.LockType) -> None:
    # An exception would be printed by the thread's end, which nobody waits for.
    with contextlib.suppress(BaseException):
        report()
    for call in _at_end:
        with contextlib.suppress(BaseException):
            call()
    # os._exit does not flush.
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    done.release()


def _context(context: dict[str, object]) -> str:
    try:
        return "".join(f" {name}={value}" for name, value in context.items())
    except Exception as error:  # noqa: BLE001 - a value without a text must not hide the reason
        return f" (the context can't be shown: {type(error).__name__})"


def _trace(error: BaseException | None) -> str:
    if error is None:
        return ""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - an error without a text must not hide the reason
        return f"{type(error).__name__}, which can't be shown\n"
