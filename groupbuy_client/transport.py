"""Connections and retries: addresses, channel options, deadlines, and the pause before each retry.

gRPC itself waits for connections and retries UNAVAILABLE, by service_config.json, which is generated from the
contract's service configs: a killed service that is back within 4 s fails no call. This module retries calls that an
overloaded service refused with a delay (RESOURCE_EXHAUSTED) or that gRPC dropped (CANCELLED), within the caller's
deadline, and reopens watches. A retry sends the same request with the same request id.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import grpc

from groupbuy_client.errors import GroupbuyError, Overloaded, Unavailable

#: Default limit of a call in seconds, retries included.
TIMEOUT_S = 10.0
#: Default limit of the time in seconds that a watch goes on without a message while its connection fails.
PATIENCE_S = 120.0
#: Attempts of one call. gRPC's own retries of UNAVAILABLE do not count.
MAX_ATTEMPTS = 10
#: Trust domain of the services' SPIFFE ids.
TRUST_DOMAIN = "groupbuy.internal"

SERVICE_CONFIG = resources.files("groupbuy_client").joinpath("service_config.json").read_text(encoding="utf-8")
_POLICY = next(one["retryPolicy"] for one in json.loads(SERVICE_CONFIG)["methodConfig"] if "retryPolicy" in one)
#: Pauses before a watch is reopened, as the retry policy has them: bounds in seconds and factor, before jitter.
_MIN_PAUSE_S = float(_POLICY["initialBackoff"].removesuffix("s"))
_MAX_PAUSE_S = float(_POLICY["maxBackoff"].removesuffix("s"))
_PAUSE_FACTOR = float(_POLICY["backoffMultiplier"])

OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", SERVICE_CONFIG),
    # Reconnect to a restarted service at once; by default gRPC waits for a second and more. The minimum is in fact the
    # time for an attempt to connect: several round trips with TLS.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Detect a dead connection below a watch within 30 s. Servers permit a ping every 10 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # By default gRPC sends even loopback addresses through the `http_proxy` of the environment.
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class Targets:
    """host:port of each service; empty if the client has none."""

    orders: str
    groups: str
    payments: str

    def of(self, service: str) -> str:
        """Returns the service's target. Raises ValueError if the client has none."""
        target: str = getattr(self, service)
        if not target:
            raise ValueError(f"the client has no target for {service}: pass {service}='host:port'")
        return target


def mtls(certificate: Path | str, key: Path | str, ca: Path | str) -> grpc.ChannelCredentials:
    """Reads credentials from PEM files: the client's certificate and key, and the CA of the services' certificates.

    A client with credentials verifies that the server at each target has the identity of the service.
    """
    files = [Path(path).read_bytes() for path in (ca, key, certificate)]
    credentials: grpc.ChannelCredentials = grpc.ssl_channel_credentials(*files)
    return credentials


def expecting(service: str, trust_domain: str) -> tuple[tuple[str, str], ...]:
    """Channel options that fail the handshake unless the server's certificate belongs to the service.

    The service's SPIFFE id is spiffe://{trust_domain}/service/{service}. gRPC verifies DNS names but no URIs, so the
    certificate also has the DNS name {service}.service.{trust_domain}.
    """
    return (("grpc.ssl_target_name_override", f"{service}.service.{trust_domain}"),)


class CallRetries:
    """Deadline and retries of one call. The service names each pause."""

    __slots__ = ("_attempts_left", "_until")

    def __init__(self, timeout_s: float) -> None:
        self._until = time.monotonic() + timeout_s
        self._attempts_left = MAX_ATTEMPTS

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, at least 0.001: some layers read 0 as no deadline."""
        return max(self._until - time.monotonic(), 0.001)

    def pause_after(self, error: GroupbuyError) -> float:
        """Returns the seconds to wait before the next attempt. Raises the error if there is no next attempt."""
        self._attempts_left -= 1
        # Wait at least as long as the service asked. The jitter keeps callers from retrying all at once.
        pause_s = error.retry_after_s * random.uniform(1.0, 1.5)
        if not isinstance(error, Overloaded) or not self._attempts_left or not 0 < pause_s < self.left_s:
            raise error
        return pause_s


class WatchRetries:
    """Retries of one watch: exponential back-off with jitter, which starts again with each received message."""

    def __init__(self, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self.received()

    def received(self) -> None:
        """The watch received a message."""
        self._pause_s = _MIN_PAUSE_S
        self._received_at = self._clock()

    def pause_after(self, error: GroupbuyError) -> float:
        """Returns the seconds to wait before the next attempt. Raises the error if there is no next attempt."""
        retryable = isinstance(error, Unavailable) or (isinstance(error, Overloaded) and error.retry_after_s > 0)
        if not retryable or self._clock() - self._received_at > self._patience_s:
            raise error
        pause_s = self._pause_s * random.uniform(0.8, 1.2)
        self._pause_s = min(self._pause_s * _PAUSE_FACTOR, _MAX_PAUSE_S)
        return max(pause_s, error.retry_after_s)
