"""A running stack as tests see it: the broker's address, the endpoints, and gRPC channels that are ready to use."""

from __future__ import annotations

import grpc

from devstack.stack import Stack
from devstack.supervision.process import tail

# A service that is killed and started again is found again at once, not after gRPC's pause of a second and more.
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
)


class RunningStack:
    """The system under test. `stack` breaks and mends its processes: kill, freeze, thaw, stop_service, wait_serving."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._channels: dict[str, grpc.Channel] = {}

    @property
    def kafka(self) -> str:
        """host:port of the broker."""
        return self.stack.kafka

    @property
    def endpoints(self) -> dict[str, str]:
        """host:port by name: orders, groups, payments, provider. The same over restarts."""
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
        return grpc.aio.insecure_channel(self.endpoints[name], options=_OPTIONS)

    def log_ends(self, lines: int) -> list[tuple[str, str]]:
        """File name and last lines of every log that has any."""
        ends = [(path.name, tail(path, lines)) for path in sorted(self.stack.logs.glob("*.log"))]
        return [(name, text) for name, text in ends if text]

    def close(self) -> None:
        """Closes the channels; the stack goes on."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def _channel(self, name: str) -> grpc.Channel:
        if name not in self._channels:
            self._channels[name] = grpc.insecure_channel(self.endpoints[name], options=_OPTIONS)
        return self._channels[name]
