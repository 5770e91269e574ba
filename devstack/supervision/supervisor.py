"""Keeps processes running: what ends with code 70, or by a signal nobody here sent, is started again after a pause.

Any other end is a failure of the whole: a service that says "bad settings" would say so again. Must never revive what
was stopped on purpose.
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

#: A service ends with it when something impossible happened: crash-only, a restart is the cure.
CRASHED = 70
_EVERY_S = 0.05

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Backoff:
    """Pauses between restarts, in seconds: doubled each time, from the first again after a healthy life."""

    first_s: float = 0.1
    limit_s: float = 5.0
    healthy_s: float = 10.0
    _next_s: float = field(default=0.0, init=False)

    def after(self, lived_s: float) -> float:
        """The pause before the next start of what lived so long."""
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
    """How a process ended, in words."""
    return f"with code {code}" if code >= 0 else f"by signal {-code} ({signal.strsignal(-code)})"


class Supervisor:
    """One thread that looks after any number of processes. It starts none itself, it only starts them again."""

    def __init__(self, on_change: Callable[[], None], *, backoff: Callable[[], Backoff] = Backoff) -> None:
        """`on_change` is called, on the supervisor's thread, whenever a process has another pid or none."""
        self._on_change = on_change
        self._backoff = backoff
        self._watched: dict[str, _Watched] = {}
        self._failure: StackFailed | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watches no more; the processes go on. Returns once nothing can be revived any more."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def watch(self, name: str, process: Process) -> None:
        """Looks after a process from now on, under a name for messages."""
        # Replaced, not changed: the thread goes over it meanwhile.
        self._watched = {**self._watched, name: _Watched(process, self._backoff())}

    @property
    def failure(self) -> StackFailed | None:
        """The first end that a restart does not mend, with the log's tail."""
        return self._failure

    def _run(self) -> None:
        try:
            while not self._stopping.wait(_EVERY_S):
                self._look_at_all()
        except Exception as error:
            log.exception("the supervisor failed")
            self._failure = StackFailed(f"the supervisor failed, nothing is restarted any more: {error!r}")

    def _look_at_all(self) -> None:
        changed = False
        for name, watched in self._watched.items():
            self._look(name, watched)
            pid = watched.process.pid
            changed |= pid != watched.pid
            watched.pid = pid
        if changed:
            self._on_change()

    def _look(self, name: str, watched: _Watched) -> None:
        process, now_s = watched.process, time.monotonic()
        code = process.code
        if code is None or process.intended:
            watched.revive_at_s = None
        elif watched.revive_at_s is not None:
            if now_s >= watched.revive_at_s and process.revive():
                watched.revive_at_s = None
        elif code == CRASHED or code < 0:
            pause_s = watched.backoff.after(now_s - process.started_s)
            log.warning("%s ended %s, it is started again in %.1f s", name, ending(code), pause_s)
            watched.revive_at_s = now_s + pause_s
        elif self._failure is None:
            self._failure = StackFailed(f"{name} ended {ending(code)}:\n{process.tail()}")
