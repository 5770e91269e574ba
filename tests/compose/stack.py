"""A Compose project of its own, with free ports: up, played on, audited, down, and removed with its volumes."""

from __future__ import annotations

import io
import json
import os
import secrets
import signal
import subprocess
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from devstack.supervision import ports
from devstack.supervision.waiting import wait_for
from tests.compose.engine import ContainerFailed, Engine, compose_command
from tests.compose.images import IMAGE, KAFKA, ROOT, SIMULATOR

COMPOSE = ROOT / "deploy" / "compose"
SERVICES = ("orders", "groups", "payments")
#: The variables of the files that name ports.
PORTS = (
    *("KAFKA_PORT", "SIMULATOR_PORT"),
    *(f"{service.upper()}_PORT" for service in SERVICES),
    *(f"{service.upper()}_METRICS_PORT" for service in SERVICES),
    *(f"{service.upper()}_1_METRICS_PORT" for service in SERVICES),
    *("CONSOLE_PORT", "SHARE_PORT", "CONSOLE_METRICS_PORT", "INVENTORY_PORT", "INVENTORY_METRICS_PORT"),
)
UP_S, READY_S = 240.0, 120.0


class ComposeStack:
    """One project. `remove` deletes all that it has made; call it in any case."""

    def __init__(self, engine: Engine, layers: Sequence[str], say: Callable[[str], None]) -> None:
        self._engine = engine
        self._project = f"groupbuy-test-{os.getpid()}"
        self._command = compose_command(COMPOSE, layers, self._project)
        self._say = say
        self.ports: Mapping[str, int] = {name: ports.free_port() for name in PORTS}
        self._environment = {
            **engine.environment,
            **{name: str(port) for name, port in self.ports.items()},
            "GROUPBUY_IMAGE": IMAGE,
            "GROUPBUY_SIMULATOR_IMAGE": SIMULATOR,
            "KAFKA_IMAGE": KAFKA,
            "PARTITIONS": "8",
            # Without the console's layer nothing reads it.
            "CONSOLE_INVENTORY": "inventory:50055",
            "LINK_KEYS": f"test:{secrets.token_hex(32)}",
        }

    def address(self, name: str) -> str:
        """The address of a service on this machine: `orders`, `kafka` or `simulator`."""
        return f"127.0.0.1:{self.ports[f'{name.upper()}_PORT']}"

    def up(self, replicas: Sequence[str] = ()) -> None:
        """Starts everything, and returns once every service and replica is ready. Raises ContainerFailed."""
        self.compose("up", "-d", timeout_s=UP_S)
        for name in (*SERVICES, *replicas):
            self.wait_ready(name)

    def wait_ready(self, name: str) -> None:
        """Returns once /ready of a service answers 200. Raises ContainerFailed."""
        port = self.ports[f"{name.upper().replace('-', '_')}_METRICS_PORT"]
        if not wait_for(lambda: _ready(port), timeout_s=READY_S, every_s=0.25):
            raise ContainerFailed(f"{name} is not ready after {READY_S:.0f} s:\n{self.log_end(name)}")

    def kill(self, name: str) -> None:
        """Sends SIGKILL to a service's first process from outside, and waits until the container runs again."""
        before = self._inspect(name, "{{.State.Pid}}")
        os.kill(int(before), signal.SIGKILL)
        if not wait_for(
            lambda: self._inspect(name, "{{.State.Running}} {{.State.Pid}}") not in {f"true {before}", "false 0", ""},
            timeout_s=30,
            every_s=0.25,
        ):
            raise ContainerFailed(f"{name} was not restarted after SIGKILL")

    def ops(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Runs the command line in a container. Returns its exit code and the last line of its output as JSON."""
        done = self._compose("run", "--rm", "-T", "ops", *arguments, "--json", timeout_s=400)
        lines = done.stdout.strip().splitlines()
        if not lines or not lines[-1].startswith("{"):
            raise ContainerFailed(f"ops {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(lines[-1])
        return done.returncode, found

    def down(self) -> None:
        """Stops and removes the containers. The volumes stay."""
        self.compose("down", timeout_s=UP_S)

    def remove(self) -> None:
        """Removes containers, networks and volumes, and releases the ports."""
        # A second Ctrl-C does not leave containers behind.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._compose("--profile", "*", "down", "-v", "--remove-orphans", "-t", "1", timeout_s=UP_S)
            left = self._engine.podman("ps", "-aq", "--filter", f"label=com.docker.compose.project={self._project}")
            if left:
                self._engine.podman("rm", "-f", *left.split())
        finally:
            ports.release(*self.ports.values())
            signal.signal(signal.SIGINT, before)

    def callers(self, into: Path) -> Path:
        """Fetches the certificates of the callers of a secured stack. Returns their folder."""
        done = subprocess.run(
            [*self._command, "run", "--rm", "-T", "callers"],
            env=self._environment,
            capture_output=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise ContainerFailed(f"callers ended with {done.returncode}: {done.stderr.decode()[-1000:]}")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(into, filter="data")
        return into / "callers"

    def log_end(self, name: str) -> str:
        """The last lines of a service's log."""
        return self._compose("logs", "--no-color", "--tail", "25", name, timeout_s=60).stdout

    def memory_mb(self) -> dict[str, float]:
        """The memory of each running container in MB, as its control group counts it."""
        listed = self._engine.podman("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsageBytes}}", check=False)
        found = {}
        for line in listed.splitlines():
            name, _, used = line.partition(" ")
            found[name.removeprefix(f"{self._project}-").removesuffix("-1")] = used.split("/")[0].strip()
        return {name: _megabytes(used) for name, used in sorted(found.items())}

    def compose(self, *arguments: str, timeout_s: float) -> str:
        """Runs Compose. Raises ContainerFailed."""
        done = self._compose(*arguments, timeout_s=timeout_s)
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
            logs = "\n".join(self.log_end(name) for name in ("kafka", "topics", *SERVICES))
            raise ContainerFailed(f"compose {' '.join(arguments)} ended with {done.returncode}:\n{said}\n{logs}")
        return done.stdout

    def _compose(self, *arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        return self._engine.run(
            *self._command, *arguments, check=False, timeout_s=timeout_s, environment=self._environment
        )

    def _inspect(self, name: str, what: str) -> str:
        return self._engine.podman("inspect", "-f", what, f"{self._project}-{name}-1", check=False)


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _megabytes(text: str) -> float:
    units = {"GiB": 1073.7, "MiB": 1.0486, "KiB": 0.001, "GB": 1000.0, "MB": 1.0, "kB": 0.001, "B": 1e-6}
    for unit, factor in units.items():
        if text.endswith(unit):
            return round(float(text.removesuffix(unit)) * factor, 1)
    return 0.0
