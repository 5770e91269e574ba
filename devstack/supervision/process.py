"""A child process that can be started again: its own session, its output in a log file, never left behind.

A child must never outlive its supervisor. On Linux the kernel sees to it (PR_SET_PDEATHSIG, SIGKILL), but it goes by
the THREAD that made the child, not by the process: a child of a short-lived thread would be killed when that thread
ends. So one thread, which lives until the interpreter ends, makes all children. Elsewhere only `stop` and `kill` help.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from devstack.supervision import private_files
from devstack.supervision.waiting import wait_for

_LAUNCH = str(Path(__file__).with_name("launch.py"))
_TAIL_LINES = 40
_TAIL_BYTES = 64 * 1024
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log file; empty when there is none."""
    with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    return ""


class Process:
    """One command, run once at a time. All methods may be called from any thread."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts nothing yet. `environment` is laid over the supervisor's own."""
        self.argv = tuple(argv)
        self.log = log
        self.intended = True
        self.started_s = 0.0
        self._cwd = cwd
        self._environment = dict(environment or {})
        self._popen: subprocess.Popen[bytes] | None = None
        # Held whenever the child may be reaped or signalled, so a signal never meets another process of its pid.
        self._lock = threading.RLock()

    def start(self) -> None:
        """Starts the command, unless it runs. The log is continued."""
        with self._lock:
            if self.running:
                return
            self.intended = False
            self._spawn()

    def revive(self) -> bool:
        """Starts the command again if it ended by itself. Returns False where somebody stopped or started it."""
        with self._lock:
            if self.intended or self.running:
                return False
            self._spawn()
            return True

    def _spawn(self) -> None:
        self.started_s = time.monotonic()
        # The spawner stores the handle itself: an interrupted caller must not lose it.
        _spawner.submit(self._spawn_in_spawner).result()

    def _spawn_in_spawner(self) -> None:
        with os.fdopen(private_files.opened(self.log, os.O_APPEND), "ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", _LAUNCH, str(os.getpid()), *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended. A frozen process runs."""
        with self._lock:
            return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        with self._lock:
            return self._popen.pid if self.running and self._popen is not None else None

    @property
    def code(self) -> int | None:
        """How it ended: an exit code, or the negative number of a signal. None while it runs or was never started."""
        with self._lock:
            return None if self._popen is None else self._popen.poll()

    def terminate(self) -> None:
        """Asks it to end, on purpose: nobody revives it."""
        with self._lock:
            self.intended = True
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it and its children at once, on purpose: nobody revives it."""
        with self._lock:
            self.intended = True
            self._signal(signal.SIGKILL)
        self.wait(timeout_s=5)

    def crash(self) -> None:
        """SIGKILL, as if by accident: a supervisor starts it again."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: it keeps its memory, sockets and claims, and does nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        self._signal(signal.SIGCONT)

    def wait(self, *, timeout_s: float) -> bool:
        """Waits until it has ended. Returns False when it still runs after `timeout_s` seconds."""
        return wait_for(lambda: not self.running, timeout_s=timeout_s, every_s=0.02)

    def stop(self, *, grace_s: float) -> None:
        """Asks it to end, and ends it where it has not after `grace_s` seconds."""
        self.terminate()
        if not self.wait(timeout_s=grace_s):
            self.kill()

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines of its log."""
        return tail(self.log, lines)

    def _signal(self, number: signal.Signals) -> None:
        """To the whole session it leads; nothing when it has ended."""
        with self._lock:
            if self.running and self._popen is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._popen.pid, number)
