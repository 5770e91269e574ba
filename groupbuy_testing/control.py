"""A stack or a broker in a process of its own, controlled over its standard input and output.

The process has the runtime's packages on its import path; the test process imports none of them. The protocol is that
of devstack/control.py. The process stops what it runs when its standard input ends, also after a crash of the test
process.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from groupbuy_settlement import command

#: The commands; the directory for data and logs follows as the last argument.
STACK = command("devstack.control", "stack")
BROKER = command("devstack.control", "broker")

# Drains the services, then stops provider and broker: each has 8 s.
_STOP_S = 60.0
_TAIL_BYTES = 64 * 1024


class StackError(Exception):
    """The stack or the broker could not do what was requested. The message says what to do next."""


def tail(log: Path, lines: int) -> str:
    """The last lines of a log file; empty if there is no file."""
    with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    return ""


class Control:
    """One controlled process. `call` may be used from any thread."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Starts the process. Its standard error goes to `log`."""
        self._log = log
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._pending: dict[int, Future[Any]] = {}
        self._ended = False
        with log.open("ab") as errors:
            # A session of its own: Ctrl-C reaches the test process alone, which then stops this one.
            self._process = subprocess.Popen(
                [*command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name="groupbuy-control", daemon=True)
        self._reader.start()

    def call(self, name: str, /, **arguments: object) -> Any:
        """Makes a call and returns its result. Raises StackError."""
        assert self._process.stdin is not None
        response: Future[Any] = Future()
        with self._lock:
            if self._ended:
                raise self._gone()
            number = next(self._numbers)
            self._pending[number] = response
            # A process that has just ended fails the call through its reader.
            with contextlib.suppress(OSError):
                self._process.stdin.write(json.dumps({"id": number, "call": name, "arguments": arguments}) + "\n")
                self._process.stdin.flush()
        return response.result()

    def close(self) -> None:
        """Stops everything and ends the process. A second call does nothing."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                response = json.loads(line)
                with self._lock:
                    pending = self._pending.pop(response["id"])
                if "error" in response:
                    pending.set_exception(StackError(response["error"]))
                else:
                    pending.set_result(response["result"])
        with self._lock:
            self._ended = True
            left, self._pending = self._pending, {}
        for pending in left.values():
            pending.set_exception(self._gone())

    def _gone(self) -> StackError:
        return StackError(f"the process that runs the stack has ended:\n{tail(self._log, 40)}".rstrip())
