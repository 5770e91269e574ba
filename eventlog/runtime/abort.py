"""Ends the process with code 70 when something happened that exactness rules out. A supervisor starts it again.

Nothing is acknowledged, flushed or cleaned up on the way: state in memory may be ahead of the log and must not be used.
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
#: Longest that the last words may delay the end. A process whose output nobody reads ends without them.
SHUTDOWN_GRACE_S = 0.8


def abort(what: str, error: BaseException | None = None, **where: object) -> NoReturn:
    """Writes the reason and the place to standard error and ends the process, on any thread and inside any callback.

    The process ends within LAST_WORDS_S, also when its output is closed, broken or full.
    """

    def speak() -> None:
        write(f"stopping with code {EXIT_CODE}: {what}{_place(where)}\n{_trace(error)}")

    end(speak)


def end(speak: Callable[[], None]) -> NoReturn:
    """Ends the process with code 70 once `speak` has returned or raised, and after LAST_WORDS_S at the latest.

    `speak` runs on a thread of its own. Thread.start would wait for that thread without a limit, and for a lock that
    the caller may have interrupted; the interpreter's own call does neither.
    """
    try:
        said = _thread.allocate_lock()
        said.acquire()
        _thread.start_new_thread(_run, (speak, said))
        said.acquire(timeout=SHUTDOWN_GRACE_S)
    finally:
        os._exit(EXIT_CODE)


def write(text: str) -> None:
    """Writes to standard error past logging, whose handlers may be the fault."""
    # The number is asked for: where standard error is closed, a file or a connection may have number 2 by now.
    descriptor = sys.stderr.fileno()
    left = text.encode(errors="replace")
    while left:
        left = left[os.write(descriptor, left) :]


def _run(speak: Callable[[], None], said: _thread.LockType) -> None:
    # A thread that ends with an exception prints it, and nobody waits for that.
    with contextlib.suppress(BaseException):
        speak()
    # os._exit flushes nothing.
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    said.release()


def _place(where: dict[str, object]) -> str:
    try:
        return "".join(f" {name}={value}" for name, value in where.items())
    except Exception as error:  # noqa: BLE001 - a value that can't be shown must not hide the reason
        return f" (the place can't be shown: {type(error).__name__})"


def _trace(error: BaseException | None) -> str:
    if error is None:
        return ""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - an error that can't be shown must not hide the reason
        return f"{type(error).__name__}, which can't be shown\n"
