"""The stack as the demo uses it: started and stopped without holding up the event loop, its processes looked after.

Must never leave a process behind: whatever happens between `__aenter__` and `__aexit__`, the stack is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from devstack.errors import DevstackError
from devstack.stack import Stack
from ops.demo.view import ServiceState

PROVIDER = "provider"
#: A payment provider that is neither quick nor slow.
LATENCY_MS = (5, 40)


class Stage:
    """A running stack. Use as an async context manager."""

    def __init__(self, run_dir: Path, kafka: str | None, partitions: int) -> None:
        # The supervisor logs each restart; the view shows it, and a line of log would tear the view.
        logging.getLogger("deploy").setLevel(logging.ERROR)
        low, high = LATENCY_MS
        latency = {"GROUPBUY_SIMPROVIDER_LATENCY_MIN_MS": str(low), "GROUPBUY_SIMPROVIDER_LATENCY_MAX_MS": str(high)}
        self._stack = Stack(run_dir, kafka=kafka, partitions=partitions, environment={PROVIDER: latency})
        self._pids: dict[str, int] = {}
        self._restarts: dict[str, int] = {}

    async def __aenter__(self) -> Stage:
        starting = asyncio.ensure_future(asyncio.to_thread(self._stack.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._stack.cancel()
            # It stops what it had started by itself; nothing may go on before it has.
            with contextlib.suppress(DevstackError):
                await starting
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._stack.stop)

    def hurry(self) -> None:
        """Ends all processes at once; the stop under way returns soon. From any thread."""
        self._stack.cancel()
        self._stack.kill_all()

    @property
    def kafka(self) -> str:
        """The broker."""
        return self._stack.kafka

    @property
    def provider(self) -> str:
        """The simulated provider."""
        return self._stack.endpoints[PROVIDER]

    def address(self, service: str) -> str:
        """gRPC address of a service."""
        return self._stack.endpoints[service]

    def check(self) -> None:
        """Raises StackFailed when a process ended in a way that a restart does not mend."""
        if (failure := self._stack.failure()) is not None:
            raise failure

    def kill(self, service: str) -> int:
        """SIGKILL; the supervisor starts it again. Returns the process id that is gone."""
        pid = self._stack.pid(service)
        self._stack.kill(service)
        return pid or 0

    async def back(self, service: str, killed_pid: int) -> None:
        """Waits until a killed service serves again. Raises StackFailed where it does not."""
        # Before the supervisor has seen the death, the old process might still count as serving.
        while self._stack.pid(service) in {None, killed_pid}:
            self.check()
            await asyncio.sleep(0.02)
        await asyncio.to_thread(self._stack.wait_serving, service)

    def states(self) -> Mapping[str, ServiceState]:
        """Every process; a restart is a process id that changed."""
        found: dict[str, ServiceState] = {}
        for name in self._stack.names:
            pid = self._stack.pid(name)
            known = self._pids.get(name)
            if pid is not None and pid != known:
                self._restarts[name] = self._restarts.get(name, -1) + 1
                self._pids[name] = pid
            found[name] = ServiceState(pid is not None, pid or known or 0, self._restarts.get(name, 0))
        return found
