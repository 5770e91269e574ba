"""A fresh clone, the commands that a newcomer types in it, and `make up` in the foreground.

Each command has a deadline and ends with its whole process group.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from devstack.supervision.waiting import wait_for

#: Variables of the caller that a newcomer would not have.
_FOREIGN = ("GROUPBUY_", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS", "KAFKA", "JAVA_HOME", "XDG_CACHE_HOME", "PYTEST")
_NAMES = {
    "SEED",
    "PROVIDER",
    "ORDERS",
    "KEEP",
    "SECURED",
    "PORTS",
    "PARTITIONS",
    "POLICY",
    "UP",
    "ARGS",
    "NOTIFY_SOCKET",
}
#: `make up` prints an example last.
_READY = "CampaignService/CreateCampaign\n"
_END_CHARACTERS = 3_000
TRACEBACK = "Traceback (most recent call last)"


class StepFailed(Exception):
    """A step did not give what a newcomer needs. The message has the command and the end of its output."""


class StepSkipped(Exception):
    """A step can't run here. The message is a sentence."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. The output has both streams."""

    command: str
    code: int
    output: str

    def expect(self, code: int, *texts: str) -> Ended:
        """Raises StepFailed unless the command ended with the code, printed all texts, and no traceback."""
        missing = [text for text in texts if text not in self.output]
        if self.code != code or missing or TRACEBACK in self.output:
            wanted = f"wanted code {code}{''.join(f', {text!r}' for text in missing)}"
            raise StepFailed(
                f"{self.command}\nended with code {self.code}, {wanted}:\n{self.output[-_END_CHARACTERS:]}"
            )
        return self


class Deadline:
    """The time that is left for a step."""

    def __init__(self, seconds: float) -> None:
        self._end_s = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, at least a little."""
        return max(0.1, self._end_s - time.monotonic())


class Checkout:
    """A clone and the directory for what its commands write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.deadline = Deadline(600)

    @property
    def bin(self) -> Path:
        """The programs of its .venv."""
        return self.root / ".venv" / "bin"

    def environment(self, **variables: str | None) -> dict[str, str]:
        """The variables of the caller without ours; None removes one."""
        found = {
            name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN) and name not in _NAMES
        }
        for name, value in variables.items():
            found.pop(name, None)
            if value is not None:
                found[name] = value
        return found

    def run(
        self,
        *command: str,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        within_s: float = 600,
    ) -> Ended:
        """Runs a command to its end. Raises StepFailed if it takes longer than `within_s` or than the step may."""
        shown = " ".join(command)
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                command,
                cwd=cwd or self.root,
                env=dict(environment if environment is not None else self.environment()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            limit_s = min(within_s, self.deadline.left_s)
            try:
                code = process.wait(timeout=limit_s)
            except subprocess.TimeoutExpired:
                raise StepFailed(f"{shown}\ndid not end within {limit_s:.0f} s:\n{_read(output)}") from None
            finally:
                _kill(process)
            return Ended(shown, code, _read(output))

    def shell(self, script: str, *, cwd: Path | None = None, within_s: float = 120, **variables: str | None) -> Ended:
        """Runs a script as in one terminal; its first failing command ends it."""
        return self.run("bash", "-euc", script, cwd=cwd, environment=self.environment(**variables), within_s=within_s)

    def make(self, *arguments: str, within_s: float = 120, **variables: str | None) -> Ended:
        """Runs `make`."""
        return self.run("make", *arguments, environment=self.environment(**variables), within_s=within_s)


class Foreground:
    """`make up` in a terminal of its own."""

    def __init__(
        self,
        checkout: Checkout,
        *arguments: str,
        run_dir: Path | None = None,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.run_dir = run_dir or checkout.root / ".run"
        self.command = [*prefix, "make", "up", *arguments]
        self._checkout = checkout
        # Read by its name: another descriptor keeps the offset of the writer.
        self._file = tempfile.NamedTemporaryFile(mode="ab")  # noqa: SIM115 - open while the process runs
        self._process = subprocess.Popen(
            self.command,
            cwd=checkout.root,
            env=dict(environment if environment is not None else checkout.environment()),
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return Path(self._file.name).read_text(encoding="utf-8", errors="replace")

    @property
    def example(self) -> str:
        """The command that it prints."""
        return self.output.partition("An example:\n")[2]

    def wait_ready(self, within_s: float = 120) -> None:
        """Waits until it serves. Raises StepFailed."""
        wait_for(
            lambda: _READY in self.output or self._process.poll() is not None,
            timeout_s=min(within_s, self._checkout.deadline.left_s),
        )
        if _READY not in self.output or TRACEBACK in self.output:
            raise StepFailed(f"{' '.join(self.command)}\ndid not serve within {within_s:.0f} s:\n{self.output}")

    def pids(self) -> list[int]:
        """Its processes, by its record."""
        record: Any = json.loads((self.run_dir / "stack.json").read_text(encoding="utf-8"))
        return [*record["pids"].values(), record["supervisor"]]

    def interrupt(self, within_s: float = 45) -> str:
        """Presses Ctrl-C and waits for the end. Returns the output. Raises StepFailed."""
        # Like a terminal: make and its program both get the signal.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(timeout=min(within_s, self._checkout.deadline.left_s))
        except subprocess.TimeoutExpired:
            raise StepFailed(f"{' '.join(self.command)}\nran on after Ctrl-C:\n{self.output}") from None
        if TRACEBACK in self.output:
            raise StepFailed(f"{' '.join(self.command)}\nended with a traceback:\n{self.output}")
        return self.output

    def close(self) -> None:
        """Kills the processes that still run."""
        _kill(self._process)
        self._file.close()

    def __enter__(self) -> Foreground:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def running(pids: Sequence[int]) -> list[int]:
    """The processes that still run."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
