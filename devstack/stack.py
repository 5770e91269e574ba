"""The whole system on this machine: broker, simulated provider and three services, supervised, in one run directory.

`python -m devstack` runs it in the foreground (`make up`). A lock on the run directory keeps a second stack from
starting in it, and no process outlives the stack.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack import addresses
from devstack.certificates.ca import Issued
from devstack.certificates.credentials import MONITOR, OPS, Credentials
from devstack.errors import AlreadyRunning, BadDirectory, BrokerFailed, MissingTool, PortTaken, StackFailed
from devstack.kafka import jars, probe
from devstack.kafka.broker import Broker
from devstack.kafka.jars import try_lock
from devstack.kafka.secured import ADMIN
from devstack.product import PRODUCT, Child, Layout, Plan, replica_name
from devstack.supervision import ports, private_files
from devstack.supervision.process import Process
from devstack.supervision.processes import START_S, Processes
from devstack.supervision.waiting import wait_for

BROKER = "broker"
_EXTERNAL_S = 15.0


class Stack(Processes):
    """One system. `start` once, `stop` once; in between, kill, freeze and restart any of its processes by name.

    Names are `orders`, `groups`, `payments`, `provider` and, with a broker of its own, `broker`; further replicas of a
    service are `groups-1`, `groups-2` and so on.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        kafka: str | None = None,
        data: Path | None = None,
        keep_data: bool = False,
        keep_logs: bool = True,
        partitions: int = 4,
        environment: Mapping[str, Mapping[str, str]] | None = None,
        plan: Plan = PRODUCT,
        replicas: Mapping[str, int] | None = None,
        secured: bool = False,
        policy: Path | None = None,
        fixed_ports: Mapping[str, int] | None = None,
    ) -> None:
        """Starts nothing yet.

        `kafka`, else $KAFKA, is the broker to use; without either the stack starts its own. `data` (default: in the run
        directory) is the directory for all data; it is emptied at the start and removed at the stop unless `keep_data`.
        Logs are removed at the stop unless `keep_logs` is set or something failed. The next start removes them, unless
        `keep_data`. `environment` adds variables by
        process name: `{"provider": {"GROUPBUY_SIMPROVIDER_LATENCY_MAX_MS": "200"}}`. `replicas` is the number of
        processes by service (default: 1). With `secured` all calls use mutual TLS and the stack's broker authenticates
        its clients; `credentials` has the certificates and passwords; `policy` replaces the policy of all processes.
        `fixed_ports` has ports by the name of the address, `kafka` among them; the others get free ports.
        """
        super().__init__(run_dir)
        self.data = (data or self.run_dir / "data").absolute()
        self.partitions = partitions
        self._keep_data = keep_data
        self._keep_logs = keep_logs
        self._external = kafka or os.environ.get("KAFKA") or None
        self._broker = None if self._external else Broker(cancel=self._cancel)
        self._plan = plan
        self._environment = environment or {}
        self._replicas = replicas or {}
        self._layout: Layout | None = None
        self._added: list[str] = []
        self._lock_handle: int | None = None
        self._secured = secured
        self._policy = policy
        self._fixed_ports = fixed_ports or {}
        self._kafka_port = 0
        #: Certificates and passwords of a secured stack; None before the start.
        self.credentials: Credentials | None = None
        # Held during a start: `stop` waits until a cancelled start on another thread has returned.
        self._starting = threading.Lock()

    @property
    def kafka(self) -> str:
        """host:port of the broker."""
        return self._external or self.broker.bootstrap

    @property
    def monitor(self) -> Issued | None:
        """The client certificate of health checks; None without encryption."""
        return self.credentials.issued[MONITOR] if self.credentials else None

    def identity(self, name: str) -> str:
        """See Processes. Replicas of a service share one identity."""
        return self.credentials.identities[name.partition("-")[0]] if self.credentials else ""

    @property
    def broker(self) -> Broker:
        """The stack's own broker. Raises BrokerFailed if the stack uses another one."""
        if self._broker is None:
            raise BrokerFailed(f"the broker at {self._external} is not ours")
        return self._broker

    def start(self) -> None:
        """Starts everything and returns once every service is SERVING. If that fails, stops what has started.

        Raises a DevstackError: MissingTool, BadAddress, BadDirectory, PortTaken, AlreadyRunning, BrokerFailed,
        StackFailed, or Cancelled after `cancel` or `stop`.
        """
        with self._starting:
            try:
                self._start()
            except OSError as error:
                self._stop(well=False)
                raise BadDirectory(
                    f"{error.filename or self.run_dir} can't be used ({error.strerror or error}). Another directory: "
                    "`make up UP='--run-dir DIRECTORY'`."
                ) from error
            except BaseException:
                self._stop(well=False)
                raise

    def cancel(self) -> None:
        """Makes a `start` on another thread raise Cancelled soon."""
        self._cancel.set()

    def stop(self) -> None:
        """Drains the services, then stops provider and broker. Does nothing if nothing runs."""
        self.cancel()
        with self._starting:
            self._stop(well=self.failure() is None)

    def _start(self) -> None:
        self._lock()
        self._choose_ports()
        if not self._keep_data:
            shutil.rmtree(self.data, ignore_errors=True)
            shutil.rmtree(self.logs, ignore_errors=True)
        private_files.directory(self.data)
        private_files.directory(self.logs)
        if self._secured:
            self.credentials = Credentials(self.data / "credentials", self._policy)
        self._supervisor.start()
        self._start_broker()
        self._make_topics()
        layout = self._layout = Layout.of(self.kafka, self.data, self.endpoints)
        if self._plan.prepare is not None:
            self._plan.prepare(layout)
        children = [make(layout) for make in (*self._plan.first.values(), *self._plan.then.values())]
        for child in children:
            self._start_child(child)
        more = [self._add_replica(service) for service, count in self._replicas.items() for _ in range(count - 1)]
        self._write_record()
        self._record.write_variables(self.variables())
        for name in (*(child.name for child in children), *more):
            self.wait_serving(name, timeout=START_S)

    def variables(self) -> dict[str, str]:
        """Variables for a shell: the addresses, and in a secured stack the credentials of the command line."""
        found = addresses.variables(self.kafka, self.endpoints)
        if self.credentials is not None:
            found |= {"CREDENTIALS": str(self.credentials.directory), **self.credentials.environment(OPS)}
        return found

    def _choose_ports(self) -> None:
        if self._broker is not None and (port := self._fixed_ports.get(addresses.KAFKA)):
            self._claim(addresses.KAFKA, port)
            self._kafka_port = port
        for name in (*self._plan.first, *self._plan.then, *self._plan.extra_addresses):
            port = self._fixed_ports.get(name, 0)
            if port:
                self._claim(name, port)
            self.endpoints[name] = f"127.0.0.1:{port or ports.free_port()}"

    @staticmethod
    def _claim(name: str, port: int) -> None:
        try:
            ports.claim(port)
        except OSError as error:
            reason = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror
            raise PortTaken(
                f"port {port} for {name} can't be used ({reason}). Stop the program that has it, for instance another "
                "`make up`, or choose other ports: `make up PORTS=free`, or a first port: `make up PORTS=16050`."
            ) from error

    def _start_child(self, child: Child) -> None:
        own = self.credentials.environment(child.name) if self.credentials else {}
        environment = {**self._python(), **child.environment, **own, **self._environment.get(child.name, {})}
        # Not in the caller's directory, where the child might import other modules.
        process = Process(child.argv, log=self.log_file(child.name), cwd=self.data, environment=environment)
        self._add(child.name, process, health=child.health)
        process.start()

    def add_replica(self, service: str) -> str:
        """Starts one more process of a service and returns its name. Does not wait: see `wait_serving`.

        Raises StackFailed if the stack has no such service or does not run.
        """
        name = self._add_replica(service)
        self._write_record()
        return name

    def _add_replica(self, service: str) -> str:
        if self._layout is None or self._plan.replica is None or service not in self._plan.then:
            raise StackFailed(f"this stack can't start another {service!r}")
        number = next(one for one in itertools.count(1) if replica_name(service, one) not in self.names)
        name = replica_name(service, number)
        self.endpoints[name] = f"127.0.0.1:{ports.free_port()}"
        if f"{service}_metrics" in self.endpoints:
            self.endpoints[f"{name}_metrics"] = f"127.0.0.1:{ports.free_port()}"
        self._added.append(name)
        self._start_child(self._plan.replica(service, number)(self._layout))
        return name

    def _stop(self, *, well: bool) -> None:
        self.cancel()
        self._supervisor.stop()
        self._stop_together((*self._plan.then, *self._added))
        self._stop_together(self._plan.first)
        if self._broker is not None:
            self._broker.release()
        ports.release(self._kafka_port, *(int(endpoint.rpartition(":")[2]) for endpoint in self.endpoints.values()))
        if self._lock_handle is not None:
            self._clean(well=well)
            os.close(self._lock_handle)
            self._lock_handle = None

    def _clean(self, *, well: bool) -> None:
        self._record.remove()
        if not self._keep_data:
            shutil.rmtree(self.data, ignore_errors=True)
        if not self._keep_logs and well:
            shutil.rmtree(self.logs, ignore_errors=True)
        if not any(self.run_dir.iterdir()):
            self.run_dir.rmdir()

    def _python(self) -> dict[str, str]:
        """Variables that cache compiled modules, so that a restart is fast, also where the sources are read-only."""
        found = {"PYTHONUNBUFFERED": "1"}
        if os.environ.get("PYTHONDONTWRITEBYTECODE") and not os.environ.get("PYTHONPYCACHEPREFIX"):
            with contextlib.suppress(MissingTool):
                found |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(jars.home() / "pycache")}
        return found

    def _lock(self) -> None:
        """Locks the run directory. The kernel releases the lock when the process ends, and no file is left."""
        private_files.directory(self.run_dir)
        handle = os.open(self.run_dir, os.O_RDONLY)
        if not try_lock(handle):
            os.close(handle)
            owner = self._record.owner()
            raise AlreadyRunning(f"a stack is running in {self.run_dir} already ({owner}): stop it first.")
        self._lock_handle = handle

    def _start_broker(self) -> None:
        if self._broker is not None:
            secured = self.credentials.kafka if self.credentials else None
            directory, log = self.data / "kafka", self.log_file(BROKER)
            self._broker.start(directory, port=self._kafka_port, log=log, secured=secured)
            self._add(BROKER, self._broker.process)
            return
        if self._secured:
            raise BrokerFailed("--secured needs its own broker: unset KAFKA.")
        probe.addresses(self.kafka)
        if not wait_for(lambda: probe.answers(self.kafka), timeout_s=_EXTERNAL_S, cancel=self._cancel, every_s=0.3):
            raise BrokerFailed(f"no broker answers at KAFKA={self.kafka}: start it, or unset KAFKA.")

    def _make_topics(self) -> None:
        if self.credentials is not None and self._plan.acls is not None:
            self._run("acls", self._plan.acls(self.kafka), self.credentials.environment(ADMIN))
        if self._plan.topics is not None:
            own = self.credentials.environment(ADMIN) if self.credentials else {}
            self._run("topics", self._plan.topics(self.kafka, self.partitions), own)

    def _run(self, what: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Runs a command to its end. Raises StackFailed."""
        process = Process(command, log=self.log_file(what), cwd=self.data, environment=environment)
        try:
            process.start()
            ended = wait_for(lambda: not process.running, timeout_s=START_S, cancel=self._cancel)
            if not ended or process.code != 0:
                raise StackFailed(f"the {what} could not be created at {self.kafka}:\n{process.tail()}")
        finally:
            process.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
