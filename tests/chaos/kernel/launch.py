"""Starts workers as processes of their own, forked from one that has imported everything, so that a start is cheap.

They are killed, frozen and watched as any process; what they print goes to their log. The forge (this module, when run)
takes a JSON request a line and answers with a number; when its input ends it ends, and what it started with it.
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

#: What the forge says of a process that has not ended.
_RUNS = 1 << 16


class _Forge:
    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.chaos.kernel.launch"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._asking = threading.Lock()
        atexit.register(self.close)

    def ask(self, **request: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Processes are ended by threads, and an answer names no question.
        with self._asking:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@cache
def _forge() -> _Forge:
    """One a process, started when it is first needed."""
    return _Forge()


class Launched:
    """One process."""

    def __init__(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self._code: int | None = None
        log.touch()
        self._pid = _forge().ask(arguments=list(arguments), log=str(log), environment=dict(environment))

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._code is None and (said := _forge().ask(pid=self._pid)) != _RUNS:
            self._code = said
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """Harmless once it has ended."""
        if self.code is None:
            os.kill(self._pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so many seconds."""
        until = time.monotonic() + seconds
        while self.code is None and time.monotonic() < until:
            time.sleep(0.01)
        return self.code is not None

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.send_signal(signal.SIGKILL)
        self.wait(20)


def _die_with_parent() -> None:
    """Whatever ends the parent, SIGKILL too: nothing is left behind. Linux alone has it."""
    pr_set_pdeathsig = 1
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGKILL))


def _run(arguments: list[str], log: str, environment: dict[str, str]) -> NoReturn:
    """In the fork: never returns to the forge."""
    code = 1
    try:
        _die_with_parent()
        with Path(log).open("ab") as out, Path(os.devnull).open("rb") as nothing:
            for file, number in ((nothing, 0), (out, 1), (out, 2)):
                os.dup2(file.fileno(), number)
        os.environ.update(environment)
        worker.main(arguments)
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it is in the log, and this is where the process ends
        traceback.print_exc()
    finally:
        try:
            # Nobody may be left to read it.
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
            # In a long run the system gives a number again; the code is that of the process before.
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
