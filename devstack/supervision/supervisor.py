"""Restarts processes that end with code 70 or by a signal, after a back-off.

Any other end is a failure of the whole system: a service that rejects its settings would reject them again. A process
that was stopped on purpose stays down.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from devstack.errors import StackFailed
from devstack.supervision.process import Process

#: The exit code of a service that found a violated invariant. A restart recovers it.
CRASHED = 70
_POLL_INTERVAL_S = 0.05

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Backoff:
    """Exponential back-off between restarts, in seconds. A process that ran for `healthy_s` resets it."""

    first_s: float = 0.1
    limit_s: float = 5.0
    healthy_s: float = 10.0
    _next_s: float = field(default=0.0, init=False)

    def after(self, lived_s: float) -> float:
        """The pause before the next start of a process that ran for `lived_s` seconds."""
        pause_s = self.first_s if lived_s >= self.healthy_s else max(self._next_s, self.first_s)
        self._next_s = min(self.limit_s, 2 * pause_s)
        return pause_s


@dataclass(slots=True)
class _Watched:
    process: Process
    backoff: Backoff
    pid: int | None = None
    revive_at_s: float | None = None


def ending(code: int) -> str:
    """Describes how a process ended, for a message."""
    return f"with code {code}" if code >= 0 else f"by signal {-code} ({signal.strsignal(-code)})"


class Supervisor:
    """One thread that restarts any number of processes. Others start them first."""

    def __init__(self, on_change: Callable[[], None], *, backoff: Callable[[], Backoff] = Backoff) -> None:
        """The supervisor's thread calls `on_change` when a process has another pid or none."""
        self._on_change = on_change
        self._backoff = backoff
        self._watched: dict[str, _Watched] = {}
        self._failure: StackFailed | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; the processes keep running. After the return no process is restarted."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def watch(self, name: str, process: Process) -> None:
        """Adds a process, with a name for messages."""
        # A new dict: the thread may iterate over the old one.
        self._watched = {**self._watched, name: _Watched(process, self._backoff())}

    @property
    def failure(self) -> StackFailed | None:
        """The first end of a process that a restart does not fix, with the end of its log."""
        return self._failure

    def _run(self) -> None:
        try:
            while not self._stopping.wait(_POLL_INTERVAL_S):
                self._check_all()
        except Exception as error:
            log.exception("the supervisor failed")
            self._failure = StackFailed(f"the supervisor failed and restarts no process any more: {error!r}")

    def _check_all(self) -> None:
        changed = False
        for name, watched in self._watched.items():
            self._check(name, watched)
            pid = watched.process.pid
            changed |= pid != watched.pid
            watched.pid = pid
        if changed:
            self._on_change()

    def _check(self, name: str, watched: _Watched) -> None:
        process, now_s = watched.process, time.monotonic()
        code = process.code
        if code is None or process.intended:
            watched.revive_at_s = None
        elif watched.revive_at_s is not None:
            if now_s >= watched.revive_at_s and process.revive():
                watched.revive_at_s = None
        elif code == CRASHED or code < 0:
            pause_s = watched.backoff.after(now_s - process.started_s)
            log.warning("%s ended %s; restart in %.1f s", name, ending(code), pause_s)
            watched.revive_at_s = now_s + pause_s
        elif self._failure is None:
            self._failure = StackFailed(f"{name} ended {ending(code)}:\n{process.tail()}")
