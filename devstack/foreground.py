"""Runs a system in the foreground until Ctrl-C or SIGTERM, then drains it; a second signal kills it.

The signal handler only counts signals. Start and stop run on other threads while the main thread polls, so a signal
interrupts no step and no held lock.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, Self, TextIO

from devstack.errors import Cancelled, DevstackError

_POLL_INTERVAL_S = 0.1
# The exit code if the system was killed before it had drained.
_KILLED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints to standard error, or to another stream. A terminal that has gone away changes nothing else."""
    output = stream or sys.stderr
    try:
        output.write(f"{text}\n")
        output.flush()
    except OSError:
        # Otherwise the interpreter fails at its end, when it flushes its buffers.
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), output.fileno())


class Runnable(Protocol):
    """A system that can run in the foreground."""

    def start(self) -> None:
        """Starts and returns once the system is ready. If that fails, stops what has started."""

    def cancel(self) -> None:
        """Makes a running `start` raise Cancelled soon."""

    def failure(self) -> Exception | None:
        """The reason why the system can't continue; None if it can."""

    def stop(self) -> None:
        """Drains and stops."""

    def kill_all(self) -> None:
        """Kills all its processes."""


class _Signals:
    """Counts signals while entered."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


def run(work: Runnable, ready: Callable[[], None]) -> int:
    """Starts, calls `ready`, waits for a signal or a failure, and stops. Returns the exit code. Errors go to stderr."""
    with _Signals() as signals:
        errors = _attend(work.start, work, signals)
        if not errors:
            ready()
            while not signals.count and (failure := work.failure()) is None:
                time.sleep(_POLL_INTERVAL_S)
            if not signals.count and failure is not None:
                errors.append(failure)
            else:
                say("stopping; press Ctrl-C again to kill everything")
            errors += _attend(work.stop, work, signals)
    for error in errors:
        if not isinstance(error, Cancelled):
            say(str(error))
        if not isinstance(error, DevstackError):
            raise error
    codes = [error.exit_code for error in errors if isinstance(error, DevstackError)]
    return max(codes, default=_KILLED if signals.count >= 2 else 0)


def _attend(step: Callable[[], None], work: Runnable, signals: _Signals) -> list[Exception]:
    """Runs one step on a thread. The first signal cancels a start; the second kills all processes."""
    errors: list[Exception] = []

    def run_step() -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which raises what it does not know
            errors.append(error)

    thread = threading.Thread(target=run_step)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_INTERVAL_S)
        # The count covers all steps, so a signal between two steps is not lost.
        if signals.count >= 1:
            work.cancel()
        if signals.count >= 2:
            work.kill_all()
    return errors
