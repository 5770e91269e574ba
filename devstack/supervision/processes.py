"""Named, supervised processes of one run directory: kill, freeze, restart and wait for them by name.

Has no code about brokers or services. Updates `stack.json` whenever a process id changes.
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
    """The processes of one system, by name. All methods may be called from any thread, without an event loop."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir.absolute()
        self.logs = self.run_dir / "logs"
        #: host:port of the gRPC servers, by name. The same after a restart.
        self.endpoints: dict[str, str] = {}
        self._processes: dict[str, Process] = {}
        self._health: set[str] = set()
        self._cancel = threading.Event()
        self._supervisor = Supervisor(self._write_record)
        self._record = Record(self.run_dir)
        self._recording = threading.Lock()

    @property
    def kafka(self) -> str:
        """host:port of the processes' broker; empty without a broker."""
        return ""

    @property
    def monitor(self) -> Issued | None:
        """The client certificate of health checks; None without encryption."""
        return None

    def identity(self, name: str) -> str:
        """The SPIFFE id of a process; empty without encryption."""
        return ""

    @property
    def names(self) -> tuple[str, ...]:
        """All processes, in the order of their start."""
        return tuple(self._processes)

    def log_file(self, name: str) -> Path:
        """The file with the output of a process."""
        return self.logs / f"{name}.log"

    def log(self, name: str) -> str:
        """All output of a process, over all its restarts."""
        return self.log_file(name).read_text(encoding="utf-8", errors="replace")

    def pid(self, name: str) -> int | None:
        """The process id; None while the process is down. A restart changes it."""
        return self._process(name).pid

    def kill(self, name: str, *, restart: bool = True) -> None:
        """Sends SIGKILL. The supervisor restarts the process; with `restart` false, `start_service` does."""
        process = self._process(name)
        if restart:
            process.crash()
        else:
            process.kill()

    def freeze(self, name: str) -> None:
        """Sends SIGSTOP: the process keeps its memory and connections, and does nothing until `thaw`."""
        self._process(name).freeze()

    def thaw(self, name: str) -> None:
        """Sends SIGCONT."""
        self._process(name).thaw()

    def stop_service(self, name: str) -> None:
        """Sends SIGTERM, and SIGKILL if the process does not drain in time. It stays down until `start_service`."""
        self._process(name).stop(grace_s=_GRACE_S)

    def start_service(self, name: str) -> None:
        """Starts a stopped or killed process at its old address. Does not wait: see `wait_serving`."""
        self._process(name).start()

    def wait_serving(self, name: str, timeout: float = START_S) -> None:
        """Waits until a process serves. A process without health checks counts as serving while it runs.

        Raises StackFailed with the end of its log after `timeout` seconds.
        """
        process = self._process(name)
        health = None
        if name in self._health:
            health = Health(self.endpoints[name], self.monitor, expect=self.identity(name))
        try:
            served = wait_for(
                lambda: self._check_failure() and process.running and (health is None or health.serving()),
                timeout_s=timeout,
                cancel=self._cancel,
            )
        finally:
            if health is not None:
                health.close()
        if not served:
            raise StackFailed(f"{name} did not serve within {timeout:g} s:\n{process.tail()}")

    def failure(self) -> StackFailed | None:
        """The reason why the system can't continue: a process ended in a way that a restart does not fix."""
        return self._supervisor.failure

    def kill_all(self) -> None:
        """Sends SIGKILL to all processes; the supervisor restarts none. `stop` is still needed, and fast then."""
        for process in self._processes.values():
            process.kill()

    def _check_failure(self) -> bool:
        failure = self.failure()
        if failure is not None:
            raise failure
        return True

    def _add(self, name: str, process: Process, *, health: bool = False) -> None:
        """Adds a process to the supervised ones. With `health` it counts as serving once a health check passes."""
        if health:
            self._health.add(name)
        # A new dict: other threads may iterate over the old one.
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
            known = ", ".join(self._processes) or "nothing yet"
            raise StackFailed(f"the stack has no {name!r}, only {known}") from None

    def _write_record(self) -> None:
        with self._recording:
            pids: Mapping[str, int | None] = {name: process.pid for name, process in self._processes.items()}
            self._record.write(kafka=self.kafka, endpoints=self.endpoints, pids=pids)
