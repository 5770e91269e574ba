"""Where the services are and how they are called: channel options, deadlines, and when to call again.

Retries of UNAVAILABLE are gRPC's own, by service_config.json, which clients in other languages may use as it is. What
the service asks to be called again for (RESOURCE_EXHAUSTED with a delay), or drops in a flood (CANCELLED), is retried
here, within the caller's deadline.
Must never call again without the same request id.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import grpc

from groupbuy_client.errors import GroupbuyError, Overloaded, Unavailable

#: Seconds that a call may take where nobody says otherwise, its retries included.
TIMEOUT_S = 10.0
#: Seconds without any answer after which a watch gives up.
PATIENCE_S = 120.0
#: Times that a call is made at most.
ATTEMPTS = 10
#: Of the services' identities.
TRUST_DOMAIN = "groupbuy.internal"
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0

SERVICE_CONFIG = resources.files("groupbuy_client").joinpath("service_config.json").read_text(encoding="utf-8")

OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", SERVICE_CONFIG),
    # A service that was restarted is found again at once, not after gRPC's pause of a second and more.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A watch whose connection died without a word is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


@dataclass(frozen=True, slots=True)
class Targets:
    """host:port of each service; empty: not given."""

    orders: str
    groups: str
    payments: str

    def of(self, service: str) -> str:
        """Raises ValueError where the service's target was not given."""
        target: str = getattr(self, service)
        if not target:
            raise ValueError(f"this client has no target for {service}: give it one, as Client({service}='host:port')")
        return target


def mtls(certificate: Path | str, key: Path | str, ca: Path | str) -> grpc.ChannelCredentials:
    """Credentials of PEM files: our certificate and its key, and the authority that signs the services'.

    A client with credentials calls a service only where the server's certificate is that service's own.
    """
    read = [Path(path).read_bytes() for path in (ca, key, certificate)]
    made: grpc.ChannelCredentials = grpc.ssl_channel_credentials(*read)
    return made


def expecting(service: str, trust_domain: str) -> tuple[tuple[str, str], ...]:
    """Channel options by which the handshake fails unless the server's certificate is the service's own.

    Its SPIFFE ID is spiffe://{trust_domain}/service/{service}. gRPC verifies DNS names and no URIs, so the certificate
    also has the DNS name {service}.service.{trust_domain}.
    """
    return (("grpc.ssl_target_name_override", f"{service}.service.{trust_domain}"),)


class Deadline:
    """One call's time, over all of its attempts."""

    __slots__ = ("_until",)

    def __init__(self, timeout_s: float) -> None:
        self._until = time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds left; never 0, which some layers take for none at all."""
        return max(self._until - time.monotonic(), 0.001)

    def again(self, error: Exception) -> bool | float:
        """Whether to call again after an error, and then in how many seconds: a hook of stamina."""
        if not isinstance(error, Overloaded) or not error.retry_after_s:
            return False
        # Not before the service said, and not all at once.
        pause_s = error.retry_after_s * random.uniform(1.0, 1.5)
        return pause_s if pause_s < self.left_s else False


class Pauses:
    """Pauses of a watch between two attempts: longer each time, and short again once it has heard something."""

    def __init__(self, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._lengths = _lengths()
        self._heard_at = clock()

    def heard(self) -> None:
        """Something came."""
        self._lengths = _lengths()
        self._heard_at = self._clock()

    def after(self, error: GroupbuyError) -> float:
        """Seconds to wait after an error. Raises it where waiting does not help, or has not for long enough."""
        passes = isinstance(error, Unavailable) or (isinstance(error, Overloaded) and error.retry_after_s)
        if not passes or self._clock() - self._heard_at > self._patience_s:
            raise error
        return max(next(self._lengths), error.retry_after_s)


def _lengths() -> Iterator[float]:
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1.0)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
