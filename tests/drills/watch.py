"""A running `groupbuy-ops watch` of the drills."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

from devstack.supervision import ports
from devstack.supervision.process import Process
from devstack.supervision.waiting import wait_for

_READY_S = 60.0


class Watch:
    """One watch at a fixed address. It can be stopped and started again."""

    def __init__(self, kafka: str, directory: Path, *, provider: str = "", roots: Path | None = None) -> None:
        """Starts nothing yet. `directory` gets state and log."""
        directory.mkdir(parents=True)
        self._port = ports.free_port()
        self.address = f"127.0.0.1:{self._port}"
        argv = [sys.executable, "-m", "ops.main", "watch", "--kafka", kafka, "--listen", self.address]
        argv += ["--state", str(directory / "state"), "--workers", "2"]
        if provider:
            argv += ["--statement", provider, "--statement-every", "1"]
        if roots is not None:
            argv += ["--roots", str(roots)]
        self.process = Process(argv, log=directory / "watch.log", cwd=Path.cwd())

    def start(self) -> None:
        """Returns once it has read everything. Raises RuntimeError with the end of its log."""
        self.process.start()
        if not wait_for(self.ready, timeout_s=_READY_S, every_s=0.2):
            raise RuntimeError(f"watch is not ready:\n{self.process.tail()}")

    def ready(self) -> bool:
        """Whether it has read everything up to a recent point."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/ready", timeout=5) as answer:
                return bool(json.load(answer)["ready"])
        except OSError:
            return False

    def signal_workers(self, number: signal.Signals) -> None:
        """Sends a signal to the worker processes, and none to the process that serves the metrics."""
        pid = self.process.pid
        assert pid is not None
        for child in _descendants(pid):
            os.kill(child, number)

    def stop(self) -> None:
        """Stops it. Its address stays claimed."""
        self.process.stop(grace_s=5)

    def release(self) -> None:
        """Stops it for good."""
        self.stop()
        ports.release(self._port)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text(encoding="ascii").split()):
            found += [child, *_descendants(child)]
    return found
