"""A running stack as tests use it: the broker's address, the endpoints, and gRPC channels that are ready to use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import grpc

from groupbuy_testing.control import tail

# gRPC's default pause before a reconnect is above a second; a restarted service is reachable much sooner. A copy of
# chassis/rpc/client_config/channel_options.py, which this package does not import; tests/unit/client/test_generated.py
# compares both.
OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_http_proxy", 0),
)


class Broker(Protocol):
    """The broker of a system."""

    def kill(self) -> None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102
    def restart(self) -> None: ...  # noqa: D102


class System(Protocol):
    """A stack in this process or in another one; RemoteStack describes the methods."""

    @property
    def run_dir(self) -> Path: ...  # noqa: D102
    @property
    def logs(self) -> Path: ...  # noqa: D102
    @property
    def kafka(self) -> str: ...  # noqa: D102
    @property
    def endpoints(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def partitions(self) -> int: ...  # noqa: D102
    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def broker(self) -> Broker: ...  # noqa: D102
    def start(self) -> None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102
    def log(self, name: str) -> str: ...  # noqa: D102
    def pid(self, name: str) -> int | None: ...  # noqa: D102
    def kill(self, name: str, *, restart: bool = True) -> None: ...  # noqa: D102
    def freeze(self, name: str) -> None: ...  # noqa: D102
    def thaw(self, name: str) -> None: ...  # noqa: D102
    def stop_service(self, name: str) -> None: ...  # noqa: D102
    def start_service(self, name: str) -> None: ...  # noqa: D102
    def wait_serving(self, name: str, timeout: float = 60.0) -> None: ...  # noqa: D102
    def add_replica(self, service: str) -> str: ...  # noqa: D102
    def failure(self) -> Exception | None: ...  # noqa: D102


class RunningStack:
    """The system under test. `stack` stops, freezes and restarts its processes by name."""

    def __init__(self, stack: System) -> None:
        self.stack = stack
        self._channels: dict[str, grpc.Channel] = {}

    @property
    def kafka(self) -> str:
        """host:port of the broker."""
        return self.stack.kafka

    @property
    def endpoints(self) -> Mapping[str, str]:
        """host:port by name: orders, groups, payments, provider. The same after a restart."""
        return self.stack.endpoints

    @property
    def orders(self) -> grpc.Channel:
        """Channel to the orders service."""
        return self._channel("orders")

    @property
    def groups(self) -> grpc.Channel:
        """Channel to the groups service."""
        return self._channel("groups")

    @property
    def payments(self) -> grpc.Channel:
        """Channel to the payments service."""
        return self._channel("payments")

    @property
    def provider(self) -> grpc.Channel:
        """Channel to the simulated payment provider."""
        return self._channel("provider")

    def aio(self, name: str) -> grpc.aio.Channel:
        """A new channel for grpc.aio to a service or the provider; the caller closes it (`async with`)."""
        return grpc.aio.insecure_channel(self.endpoints[name], options=OPTIONS)

    def log_ends(self, lines: int) -> list[tuple[str, str]]:
        """File name and last lines of every log that is not empty."""
        ends = [(path.name, tail(path, lines)) for path in sorted(self.stack.logs.glob("*.log"))]
        return [(name, text) for name, text in ends if text]

    def close(self) -> None:
        """Closes the channels; the stack keeps running."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def _channel(self, name: str) -> grpc.Channel:
        if name not in self._channels:
            self._channels[name] = grpc.insecure_channel(self.endpoints[name], options=OPTIONS)
        return self._channels[name]
