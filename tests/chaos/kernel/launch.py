"""Starts workers as processes, forked from one that has imported everything, so that a start is cheap.

The fork server (this module, when run) takes one JSON request a line and answers each with a number. When its input
ends, it ends and kills the workers.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from tests.chaos.kernel import worker

#: The fork server's answer for a process that is still running.
_RUNS = 1 << 16


class _ForkServer:
    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.chaos.kernel.launch"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lock = threading.Lock()
        atexit.register(self.close)

    def request(self, **fields: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Several threads end processes, and an answer does not name its request.
        with self._lock:
            self._process.stdin.write(json.dumps(fields) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@cache
def _fork_server() -> _ForkServer:
    """The fork server of this process, started when it is first needed."""
    return _ForkServer()


class WorkerProcess:
    """One worker process."""

    def __init__(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self._code: int | None = None
        log.touch()
        self._pid = _fork_server().request(arguments=list(arguments), log=str(log), environment=dict(environment))

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        if self._code is None and (code := _fork_server().request(pid=self._pid)) != _RUNS:
            self._code = code
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process has ended."""
        if self.code is None:
            os.kill(self._pid, number)

    def wait(self, seconds: float) -> bool:
        """Waits for the end; returns whether it came within so many seconds."""
        until = time.monotonic() + seconds
        while self.code is None and time.monotonic() < until:
            time.sleep(0.01)
        return self.code is not None

    def kill(self) -> None:
        """Sends SIGKILL, and waits for the end."""
        self.send_signal(signal.SIGKILL)
        self.wait(20)


def _die_with_parent() -> None:
    """Makes the kernel kill this process when its parent ends, even by SIGKILL. Works on Linux only."""
    pr_set_pdeathsig = 1
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGKILL))


def _run(arguments: list[str], log: str, environment: dict[str, str]) -> NoReturn:
    """Runs a worker in the forked process, and ends the process."""
    code = 1
    try:
        _die_with_parent()
        with Path(log).open("ab") as out, Path(os.devnull).open("rb") as nothing:
            for file, number in ((nothing, 0), (out, 1), (out, 2)):
                os.dup2(file.fileno(), number)
        os.environ.update(environment)
        worker.main(arguments)
        code = 0
    except BaseException:  # noqa: BLE001 - logged, and the process ends
        traceback.print_exc()
    finally:
        try:
            # The pipe may have no reader.
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _serve() -> None:
    running: set[int] = set()
    codes: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "arguments" in request:
            pid = os.fork()
            if pid == 0:
                _run(**request)
            running.add(pid)
            # Process ids are reused in a long run; the old code is that of an earlier process.
            codes.pop(pid, None)
            answer = pid
        else:
            asked = request["pid"]
            if asked in running:
                ended, status = os.waitpid(asked, os.WNOHANG)
                if ended:
                    running.discard(ended)
                    codes[ended] = os.waitstatus_to_exitcode(status)
            answer = codes.get(asked, _RUNS)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    for pid in running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _serve()
