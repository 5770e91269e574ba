"""The whole system in a process of its own, with the methods to stop, kill, freeze and restart its parts by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groupbuy_testing import control
from groupbuy_testing.control import Control, StackError


class RemoteBroker:
    """The broker of a stack."""

    def __init__(self, stack: RemoteStack) -> None:
        self._stack = stack

    def kill(self) -> None:
        """Sends SIGKILL. The broker stays down until `restart`."""
        self._stack.call("kill_broker")

    def stop(self) -> None:
        """Shuts the broker down cleanly. It stays down until `restart`."""
        self._stack.call("stop_broker")

    def restart(self) -> None:
        """Starts the broker on the same ports and data; returns once it answers."""
        self._stack.call("restart_broker")


class RemoteStack:
    """One system. `start` once, `stop` once. All methods may be called from any thread and raise StackError.

    Process names are `orders`, `groups`, `payments`, `provider` and, unless $KAFKA names another one, `broker`; further
    replicas of a service are `groups-1`, `groups-2` and so on.
    """

    def __init__(self, run_dir: Path, command: Sequence[str] | None = None) -> None:
        """Starts nothing yet. `run_dir` gets data and logs."""
        self.run_dir = run_dir
        self.logs = run_dir / "logs"
        #: host:port of the broker; empty before `start`.
        self.kafka = ""
        #: host:port of the servers, by name. The same after a restart.
        self.endpoints: dict[str, str] = {}
        #: The number of partitions of every topic; 0 before `start`.
        self.partitions = 0
        self.broker = RemoteBroker(self)
        self._command = command
        self._control: Control | None = None

    def start(self) -> None:
        """Starts everything; returns once every service reports SERVING."""
        self._control = Control([*(self._command or control.STACK), str(self.run_dir)], self.run_dir / "stack.log")
        started = self.call("start")
        self.kafka, self.partitions = started["kafka"], started["partitions"]
        self.endpoints.update(started["endpoints"])

    def stop(self) -> None:
        """Drains the services and stops everything. A second call does nothing."""
        if self._control is not None:
            self._control.close()

    @property
    def names(self) -> tuple[str, ...]:
        """All processes, in the order of their start."""
        return tuple(self.call("names"))

    def log(self, name: str) -> str:
        """All output of a process, over all its restarts."""
        return (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def pid(self, name: str) -> int | None:
        """The process id; None while the process is down. A restart changes it."""
        found: int | None = self.call("pid", name=name)
        return found

    def kill(self, name: str, *, restart: bool = True) -> None:
        """Sends SIGKILL. The supervisor restarts the process; with `restart` false, `start_service` does."""
        self.call("kill", name=name, restart=restart)

    def freeze(self, name: str) -> None:
        """Sends SIGSTOP: the process keeps its memory and its connections, and does nothing until `thaw`."""
        self.call("freeze", name=name)

    def thaw(self, name: str) -> None:
        """Sends SIGCONT."""
        self.call("thaw", name=name)

    def stop_service(self, name: str) -> None:
        """Sends SIGTERM, and SIGKILL if the process does not drain in time. It stays down until `start_service`."""
        self.call("stop_service", name=name)

    def start_service(self, name: str) -> None:
        """Starts a stopped or killed process at its old address. Returns before it serves: see `wait_serving`."""
        self.call("start_service", name=name)

    def wait_serving(self, name: str, timeout: float = 60.0) -> None:
        """Waits until a process serves. Raises StackError with the end of its log after `timeout` seconds."""
        self.call("wait_serving", name=name, timeout=timeout)

    def add_replica(self, service: str) -> str:
        """Starts one more process of a service and returns its name. Does not wait: see `wait_serving`."""
        added = self.call("add_replica", service=service)
        self.endpoints[added["name"]] = added["endpoint"]
        return str(added["name"])

    def failure(self) -> StackError | None:
        """The reason why the system can't continue: a process ended in a way that a restart does not fix."""
        text = self.call("failure")
        return None if text is None else StackError(text)

    def call(self, name: str, /, **arguments: object) -> Any:
        """Makes one call of devstack/control.py and returns its result."""
        if self._control is None:
            raise StackError("the stack has not been started")
        return self._control.call(name, **arguments)
