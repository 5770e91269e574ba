"""Named, supervised processes with one run directory: to break and mend by name, and to wait for.

Knows nothing of brokers or services. Must never let `stack.json` name a process that is not there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from devstack.errors import StackFailed
from devstack.record import Record
from devstack.supervision.health import Health
from devstack.supervision.process import Process
from devstack.supervision.supervisor import Supervisor
from devstack.supervision.waiting import wait_for

START_S = 60.0
_GRACE_S = 8.0

if TYPE_CHECKING:
    from devstack.certificates.ca import Issued


class Processes:
    """The processes of one system, by name. Every method may be called from any thread; none needs an event loop."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir.absolute()
        self.logs = self.run_dir / "logs"
        #: host:port of the gRPC servers, by name; kept over restarts.
        self.endpoints: dict[str, str] = {}
        self._processes: dict[str, Process] = {}
        self._health: set[str] = set()
        self._cancel = threading.Event()
        self._supervisor = Supervisor(self._write_record)
        self._record = Record(self.run_dir)
        self._recording = threading.Lock()

    @property
    def kafka(self) -> str:
        """host:port of the broker that the processes work with; empty for none."""
        return ""

    @property
    def monitor(self) -> Issued | None:
        """The certificate to ask for health with; None where nothing is encrypted."""
        return None

    def identity(self, name: str) -> str:
        """SPIFFE id of a process; empty where nothing is encrypted."""
        return ""

    @property
    def names(self) -> tuple[str, ...]:
        """All processes, in the order they were started."""
        return tuple(self._processes)

    def log_file(self, name: str) -> Path:
        """Where the output of a process goes."""
        return self.logs / f"{name}.log"

    def log(self, name: str) -> str:
        """All output of a process so far, over all its restarts."""
        return self.log_file(name).read_text(encoding="utf-8", errors="replace")

    def pid(self, name: str) -> int | None:
        """Its process id while it runs; another one after each restart."""
        return self._process(name).pid

    def kill(self, name: str, *, restart: bool = True) -> None:
        """SIGKILL. The supervisor starts it again soon, unless `restart` is false: then `start_service` does."""
        process = self._process(name)
        if restart:
            process.crash()
        else:
            process.kill()

    def freeze(self, name: str) -> None:
        """SIGSTOP: it keeps its memory, sockets and claims, and does nothing."""
        self._process(name).freeze()

    def thaw(self, name: str) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        self._process(name).thaw()

    def stop_service(self, name: str) -> None:
        """SIGTERM, and SIGKILL where it does not drain in time. It stays down until `start_service`."""
        self._process(name).stop(grace_s=_GRACE_S)

    def start_service(self, name: str) -> None:
        """Starts what was stopped or killed, at its old address. Does not wait: see `wait_serving`."""
        self._process(name).start()

    def wait_serving(self, name: str, timeout: float = START_S) -> None:
        """Waits until a process serves; one without health checks serves while it runs.

        Raises StackFailed with its log's tail where it does not within `timeout` seconds.
        """
        process = self._process(name)
        health = None
        if name in self._health:
            health = Health(self.endpoints[name], self.monitor, expect=self.identity(name))
        try:
            served = wait_for(
                lambda: self._well() and process.running and (health is None or health.serving()),
                timeout_s=timeout,
                cancel=self._cancel,
            )
        finally:
            if health is not None:
                health.close()
        if not served:
            raise StackFailed(f"{name} did not serve within {timeout:g} s:\n{process.tail()}")

    def failure(self) -> StackFailed | None:
        """Why the system is broken for good: a process ended in a way that a restart does not mend."""
        return self._supervisor.failure

    def kill_all(self) -> None:
        """SIGKILL to all, at once and for good. What started them still has to be stopped, and that is quick then."""
        for process in self._processes.values():
            process.kill()

    def _well(self) -> bool:
        failure = self.failure()
        if failure is not None:
            raise failure
        return True

    def _add(self, name: str, process: Process, *, health: bool = False) -> None:
        """Looks after a process. With `health` it counts as serving once its endpoint says so."""
        if health:
            self._health.add(name)
        # Replaced, not changed: other threads go over it.
        self._processes = {**self._processes, name: process}
        self._supervisor.watch(name, process)

    def _stop_together(self, names: Iterable[str]) -> None:
        processes = [self._processes[name] for name in names if name in self._processes]
        for process in processes:
            process.terminate()
        for process in processes:
            process.stop(grace_s=_GRACE_S)

    def _process(self, name: str) -> Process:
        try:
            return self._processes[name]
        except KeyError:
            there = ", ".join(self._processes) or "nothing yet"
            raise StackFailed(f"the stack has no {name!r}, only {there}") from None

    def _write_record(self) -> None:
        with self._recording:
            pids: Mapping[str, int | None] = {name: process.pid for name, process in self._processes.items()}
            self._record.write(kafka=self.kafka, endpoints=self.endpoints, pids=pids)
