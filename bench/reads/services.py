"""The services of bench-reads, on existing logs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.memory import rss_mb
from devstack.product import PRODUCT, SERVICES, Child, Layout
from devstack.supervision import ports
from devstack.supervision.health import Health
from devstack.supervision.process import Process
from devstack.supervision.waiting import wait_for

#: Longest first start, which folds all logs.
FIRST_START_S = 900.0
#: A state directory is complete when it has not changed for this long: checkpoints are due after at most 20 s.
QUIET_S = 25.0
SECOND_REPLICA = "orders-1"


class Services:
    """The services on existing logs, started and killed one by one, without a supervisor."""

    def __init__(self, kafka: str, directory: Path) -> None:
        names = (*PRODUCT.first, *PRODUCT.then, *PRODUCT.extra_addresses, SECOND_REPLICA)
        self.endpoints = {name: f"127.0.0.1:{ports.free_port()}" for name in names}
        self._layout = Layout(kafka, directory, self.endpoints)
        self._directory = directory
        self._processes: dict[str, Process] = {}
        #: Peak memory by service, over all its processes, and over those that started with a state directory.
        self.peak_mb = dict.fromkeys(SERVICES, 0)
        self.warm_mb = dict.fromkeys(SERVICES, 0)
        self._killed: set[str] = set()
        if PRODUCT.prepare is not None:
            PRODUCT.prepare(self._layout)

    def start(self, name: str) -> None:
        """Starts a process without waiting."""
        if name not in self._processes:
            child = self._child(name)
            environment = {**child.environment, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": ""}
            log = self._directory / f"{name}.log"
            self._processes[name] = Process(child.argv, log=log, cwd=self._directory, environment=environment)
        self._processes[name].start()

    def _child(self, name: str) -> Child:
        if name == SECOND_REPLICA:
            assert PRODUCT.replica is not None
            return PRODUCT.replica("orders", 1)(self._layout)
        return {**PRODUCT.first, **PRODUCT.then}[name](self._layout)

    def wait_serving(self, name: str, within_s: float) -> None:
        """Waits until a process reports that it serves. Otherwise ends the program."""
        process, health = self._processes[name], Health(self.endpoints[name])
        try:
            served = wait_for(lambda: not process.running or health.serving(), timeout_s=within_s, every_s=0.05)
            if not served or not process.running:
                raise SystemExit(f"{name} does not serve:\n{process.tail()}")
        finally:
            health.close()

    def wait_written(self, name: str) -> None:
        """Waits until the state directory has not changed for QUIET_S."""
        seen, since = frozenset[Any](), time.monotonic()
        until = since + FIRST_START_S
        while time.monotonic() < min(since + QUIET_S, until):
            now = frozenset(_files(self._directory / "state" / name))
            if now != seen:
                seen, since = now, time.monotonic()
            time.sleep(0.5)

    def kill(self, name: str) -> None:
        """Kills a process with SIGKILL."""
        self._record_memory(name)
        self._killed.add(name)
        self._processes[name].kill()

    def _record_memory(self, name: str) -> None:
        pid = self._processes[name].pid
        service = name.split("-", maxsplit=1)[0]
        if pid is not None and service in self.peak_mb:
            self.peak_mb[service] = max(self.peak_mb[service], rss_mb(pid))
            if name in self._killed:
                self.warm_mb[service] = max(self.warm_mb[service], rss_mb(pid))

    def stop(self) -> None:
        """Kills all processes."""
        for name, process in self._processes.items():
            self._record_memory(name)
            process.kill()
        ports.release(*(int(one.rpartition(":")[2]) for one in self.endpoints.values()))


def _files(directory: Path) -> Iterator[tuple[str, int, int]]:
    for path in directory.rglob("*"):
        # RocksDB may delete a file meanwhile.
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        # RocksDB's own log grows without a change of state.
        if path.is_file() and not path.name.startswith("LOG"):
            yield str(path), stat.st_size, stat.st_mtime_ns
