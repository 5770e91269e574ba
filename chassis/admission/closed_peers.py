"""The connections that were closed a moment ago for a flood. Their calls still wait in gRPC's queue.

Used on the event loop's thread only.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from urllib.parse import unquote

#: Seconds for which a closed connection is remembered: its calls are taken from the queue within a second, and no new
#: connection has its port so soon.
REMEMBER_S = 2.0

#: Address and port.
Peer = tuple[str, int]


class ClosedPeers:
    """The peers of closed connections."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._clock = clock
        self._until: dict[Peer, float] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        if self._until:
            now = self._clock()
            self._until = {peer: until for peer, until in self._until.items() if until > now}
        return bool(self._until)

    def add(self, peer: Peer) -> None:
        """Remembers the peer of a connection that was closed."""
        self._until[peer] = self._clock() + REMEMBER_S

    def has(self, name: str) -> bool:
        """Whether a peer, named as gRPC names it, is one of them."""
        return peer_of(name) in self._until


def peer_of(name: str) -> Peer:
    """`ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000` -> address and port."""
    address, _, port = unquote(name).partition(":")[2].rpartition(":")
    return address.strip("[]").removeprefix("::ffff:"), int(port) if port.isdigit() else 0


def address_of(packed: bytes) -> str:
    """The address of bytes, as text; empty for other bytes."""
    try:
        return str(ipaddress.ip_address(packed)).removeprefix("::ffff:")
    except ValueError:
        return ""
