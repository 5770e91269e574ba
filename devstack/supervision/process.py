"""A child process that can be restarted: it has its own session, writes to a log file, and ends with its supervisor.

On Linux the kernel kills a child when its parent ends (PR_SET_PDEATHSIG). The parent is the THREAD that started the
child, not the process, so one thread that lives until the interpreter ends starts all children. On other systems only
`stop` and `kill` end a child.
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
    """The last lines of a log file; empty if there is no file."""
    with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    return ""


class Process:
    """One command that runs at most once at a time. All methods may be called from any thread."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts nothing yet. `environment` is added to the supervisor's own."""
        self.argv = tuple(argv)
        self.log = log
        self.intended = True
        self.started_s = 0.0
        self._cwd = cwd
        self._environment = dict(environment or {})
        self._popen: subprocess.Popen[bytes] | None = None
        # Held to reap or signal the child: no signal goes to another process that got its pid.
        self._lock = threading.RLock()

    def start(self) -> None:
        """Starts the command unless it runs. Appends to the log."""
        with self._lock:
            if self.running:
                return
            self.intended = False
            self._spawn()

    def revive(self) -> bool:
        """Restarts the command if it ended by itself. Returns False if it was stopped on purpose or runs."""
        with self._lock:
            if self.intended or self.running:
                return False
            self._spawn()
            return True

    def _spawn(self) -> None:
        self.started_s = time.monotonic()
        # The spawner's thread stores the handle, so an interrupted caller does not lose it.
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
        """Whether the process was started and has not ended. A frozen process counts as running."""
        with self._lock:
            return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id; None while it is down."""
        with self._lock:
            return self._popen.pid if self.running and self._popen is not None else None

    @property
    def code(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it. None while it runs or before a start."""
        with self._lock:
            return None if self._popen is None else self._popen.poll()

    def terminate(self) -> None:
        """Sends SIGTERM and marks the end as intended: the supervisor does not restart it."""
        with self._lock:
            self.intended = True
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Sends SIGKILL to the process and its children, and marks the end as intended."""
        with self._lock:
            self.intended = True
            self._signal(signal.SIGKILL)
        self.wait(timeout_s=5)

    def crash(self) -> None:
        """Sends SIGKILL without marking the end as intended: a supervisor restarts it."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Sends SIGSTOP: the process keeps its memory and connections, and does nothing until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Sends SIGCONT."""
        self._signal(signal.SIGCONT)

    def wait(self, *, timeout_s: float) -> bool:
        """Waits until the process has ended. Returns False if it still runs after `timeout_s` seconds."""
        return wait_for(lambda: not self.running, timeout_s=timeout_s, every_s=0.02)

    def stop(self, *, grace_s: float) -> None:
        """Sends SIGTERM, and SIGKILL if the process has not ended after `grace_s` seconds."""
        self.terminate()
        if not self.wait(timeout_s=grace_s):
            self.kill()

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines of its log."""
        return tail(self.log, lines)

    def _signal(self, number: signal.Signals) -> None:
        """Signals the whole session of the process. Does nothing if it has ended."""
        with self._lock:
            if self.running and self._popen is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._popen.pid, number)
