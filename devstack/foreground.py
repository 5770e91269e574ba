"""Runs something in the foreground until Ctrl-C or SIGTERM, then lets it drain; a second signal ends it at once.

A signal handler here only counts. The work is done on other threads while the main thread watches, so that no lock and
no half-done step is ever interrupted.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol, Self

from devstack.errors import Cancelled, DeployError

_EVERY_S = 0.1
# What did not drain is no clean end.
_KILLED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Runnable(Protocol):
    """What can be run so."""

    def start(self) -> None:
        """Starts; returns once it is ready. Stops what it started where that fails."""

    def cancel(self) -> None:
        """Makes `start` give up soon, with Cancelled."""

    def failure(self) -> Exception | None:
        """Why it can't go on."""

    def stop(self) -> None:
        """Drains and stops."""

    def kill_all(self) -> None:
        """Ends all its processes at once."""


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
    """Starts, calls `ready`, waits for a signal or a failure, stops. Returns the exit code; says errors on stderr."""
    with _Signals() as signals:
        errors = _attend(work.start, work, signals)
        if not errors:
            ready()
            while not signals.count and (failure := work.failure()) is None:
                time.sleep(_EVERY_S)
            if not signals.count and failure is not None:
                errors.append(failure)
            else:
                sys.stderr.write("stopping; press Ctrl-C again to stop at once\n")
            errors += _attend(work.stop, work, signals)
    for error in errors:
        if not isinstance(error, Cancelled):
            sys.stderr.write(f"{error}\n")
        if not isinstance(error, DeployError):
            raise error
    codes = [error.exit_code for error in errors if isinstance(error, DeployError)]
    return max(codes, default=_KILLED if signals.count >= 2 else 0)


def _attend(step: Callable[[], None], work: Runnable, signals: _Signals) -> list[Exception]:
    """Runs one step on a thread; the first signal of all cancels a start, the second kills."""
    errors: list[Exception] = []

    def run_step() -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which raises what it does not know
            errors.append(error)

    thread = threading.Thread(target=run_step)
    thread.start()
    while thread.is_alive():
        thread.join(_EVERY_S)
        # Signals are counted over all steps, so none that comes between two of them is lost.
        if signals.count >= 1:
            work.cancel()
        if signals.count >= 2:
            work.kill_all()
    return errors
