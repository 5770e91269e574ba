"""The stack for the demo: starts and stops without blocking the event loop, and counts restarts of its processes.

`__aexit__` always stops the stack.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from devstack.errors import DevstackError
from devstack.kafka import jars
from devstack.stack import BROKER, Stack
from devstack.supervision.health import Health
from ops.demo.kept import DATA
from ops.demo.screen.view import ServiceState

PROVIDER = "provider"
#: The latency range of the simulated provider.
LATENCY_MS = (5, 40)


class Stage:
    """A running stack. Use as an async context manager."""

    def __init__(self, run_dir: Path, kafka: str | None, partitions: int) -> None:
        # The view shows each restart. The supervisor's log line would break the live view.
        logging.getLogger("devstack").setLevel(logging.ERROR)
        low, high = LATENCY_MS
        latency = {"GROUPBUY_SIMPROVIDER_LATENCY_MIN_MS": str(low), "GROUPBUY_SIMPROVIDER_LATENCY_MAX_MS": str(high)}
        self._external = kafka
        self._stack = Stack(
            run_dir,
            kafka=kafka,
            data=run_dir / DATA,
            keep_data=True,
            partitions=partitions,
            environment={PROVIDER: latency},
        )
        self._pids: dict[str, int] = {}
        self._restarts: dict[str, int] = {}

    async def __aenter__(self) -> Stage:
        starting = asyncio.ensure_future(asyncio.to_thread(self._stack.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._stack.cancel()
            # The cancelled start stops what it has started. Wait for it.
            with contextlib.suppress(DevstackError):
                await starting
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._stack.stop)

    def kill_all(self) -> None:
        """Kills all processes; a running stop returns soon. May be called from any thread."""
        self._stack.cancel()
        self._stack.kill_all()

    def waiting_for(self) -> str:
        """The part of the stack that a start is waiting for; empty if nothing is. May block for seconds."""
        names = self._stack.names
        if PROVIDER in names:
            return ", ".join(name for name in names if name != BROKER and not self._serving(name))
        if self._external is not None:
            return f"the broker at {self._external} and the creation of topics"
        if BROKER in names:
            return "the creation of topics"
        with contextlib.suppress(DevstackError):
            # The start itself reports the error.
            if jars.missing():
                return "Maven, which downloads Kafka once"
        return "the broker"

    def _serving(self, name: str) -> bool:
        health = Health(self._stack.endpoints[name])
        try:
            return health.serving()
        finally:
            health.close()

    @property
    def kafka(self) -> str:
        """host:port of the broker."""
        return self._stack.kafka

    @property
    def provider(self) -> str:
        """host:port of the simulated provider."""
        return self._stack.endpoints[PROVIDER]

    def address(self, service: str) -> str:
        """host:port of a service."""
        return self._stack.endpoints[service]

    def check(self) -> None:
        """Raises StackFailed if a process ended in a way that a restart does not fix."""
        if (failure := self._stack.failure()) is not None:
            raise failure

    def kill(self, service: str) -> int:
        """Sends SIGKILL and returns the process id. The supervisor restarts the service."""
        pid = self._stack.pid(service)
        self._stack.kill(service)
        return pid or 0

    async def wait_restarted(self, service: str, killed_pid: int) -> None:
        """Waits until a killed service serves again. Raises StackFailed if it does not."""
        # Until the supervisor notices the end, the old process may count as serving.
        while self._stack.pid(service) in {None, killed_pid}:
            self.check()
            await asyncio.sleep(0.02)
        await asyncio.to_thread(self._stack.wait_serving, service)

    def states(self) -> Mapping[str, ServiceState]:
        """All processes. A changed process id counts as a restart."""
        found: dict[str, ServiceState] = {}
        for name in self._stack.names:
            pid = self._stack.pid(name)
            known = self._pids.get(name)
            if pid is not None and pid != known:
                self._restarts[name] = self._restarts.get(name, -1) + 1
                self._pids[name] = pid
            found[name] = ServiceState(pid is not None, pid or known or 0, self._restarts.get(name, 0))
        return found
