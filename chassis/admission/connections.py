"""Connections of the gRPC server: how many there may be, and the end of those whose peers misbehave.

gRPC accepts a limited number of connections and closes one more at once. It has no limit for one peer, and no way to
end one connection. So this module looks at the process's own sockets: an address has a limited number of connections,
and a peer that leaves answers unread, or opens and resets streams by the thousand, loses its connection. Its calls end
UNAVAILABLE, and a client of gRPC connects again.

Linux alone shows a process its sockets; elsewhere the limits of gRPC itself hold, and the rest does nothing.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import resource
import socket
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import unquote

import structlog
from grpc_channelz.v1 import channelz_pb2
from grpc_channelz.v1._servicer import ChannelzServicer

from chassis.admission.load_shedder import NOBODY
from chassis.admission.rate_limit import Limit, Sparingly

log = structlog.stdlib.get_logger(__name__)

#: Connections of one process at most, and of one address. Half of the descriptors are left to everything else.
MAX = 8_000
MAX_OF_ADDRESS = 2_000
#: Streams of one connection at a time. A client of gRPC waits with one more.
MAX_STREAMS = 10_000
#: Calls of all connections that do not succeed from one look to the next, from which single connections are looked at;
#: and those of one connection in that time, from which it is closed where nearly all of its calls fail.
SUSPICIOUS = 300
FLOOD = 300
#: Seconds between two looks.
POLL_INTERVAL_S = 0.25
#: Connections that are looked at then, at most: each costs 0.1 ms.
LOOKED_AT = 200
#: Connections that have ended, from which the memory that they leave is given back at once: 8 KB each.
MANY = 500
#: Descriptors more than the last time, for which the connections of each address are counted again: each takes 10 us.
MORE = 100
LINES = Limit(1, 10)

_SOCKETS = "/proc/self/fd"


def raise_descriptors() -> int:
    """Lets this process have as many descriptors as it may have, and returns the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def most_connections() -> int:
    """Connections that the server may accept."""
    return min(MAX, raise_descriptors() // 2)


class Connections:
    """Connections of the server on one port. On the event loop's thread only."""

    def __init__(self, server_id: int) -> None:
        """`server_id` is channelz's; 0: not known, and floods are not looked for."""
        self.port = 0
        self.most_of_address = MAX_OF_ADDRESS
        #: Connections that were closed so far.
        self.closed = 0
        self._id = server_id
        self._failed = 0
        #: Most descriptors since memory was given back last.
        self._peak = 0
        #: Descriptors when the connections of each address were counted last.
        self._looked_at = 0
        #: Calls started and failed, by channelz's number of the connection.
        self._before: dict[int, tuple[int, int]] = {}
        self._lines = Sparingly(LINES)

    def close(self, peers: Collection[str], why: str) -> int:
        """Closes the connections of peers, as gRPC names them; returns how many there were."""
        wanted = {_named(peer) for peer in peers}
        closed = 0
        if wanted:
            for found, _, one in self._all(_numbers()):
                if found in wanted:
                    closed += _shut(one)
            self._note(closed, why)
        return closed

    def sweep(self) -> None:
        """Closes what one address has too many of, and what floods us. To be called every LOOK_S."""
        self._close_surplus()
        if self._id:
            self._close_floods()

    def _close_surplus(self) -> None:
        """The newest connections of an address go first: they have the highest descriptors, as a rule."""
        now = _descriptors()
        self._peak = max(self._peak, now)
        if self._peak - now >= MANY and now * 2 < self._peak:
            self._peak = now
            _trim()
        if now <= max(self.most_of_address, self._looked_at + MORE):
            self._looked_at = min(self._looked_at, now)
            return
        self._looked_at = now
        by_address: defaultdict[str, list[int]] = defaultdict(list)
        for (address, _), number, _ in self._all(_numbers()):
            by_address[address].append(number)
        surplus = {one: address for address, all_ in by_address.items() for one in all_[self.most_of_address :]}
        if surplus:
            # A descriptor may have become another connection's meanwhile.
            found = self._all(surplus)
            closed = sum(_shut(one) for (address, _), number, one in found if surplus[number] == address)
            self._note(closed, "an address has too many")

    def _close_floods(self) -> None:
        data = ChannelzServicer.GetServer(channelz_pb2.GetServerRequest(server_id=self._id), NOBODY).server.data
        # Those that were reset before the event loop took them are not among the failed ones.
        failed = data.calls_started - data.calls_succeeded
        more, self._failed = failed - self._failed, failed
        if more < SUSPICIOUS:
            self._before.clear()
            return
        found = ChannelzServicer.GetServerSockets(
            channelz_pb2.GetServerSocketsRequest(server_id=self._id, max_results=LOOKED_AT), NOBODY
        )
        before, self._before = self._before, {}
        flooding = set()
        for ref in found.socket_ref:
            answer = ChannelzServicer.GetSocket(channelz_pb2.GetSocketRequest(socket_id=ref.socket_id), NOBODY)
            if answer is None:
                continue
            counts = answer.socket.data.streams_started, answer.socket.data.streams_failed
            started_before, failed_before = before.get(ref.socket_id, (0, 0))
            self._before[ref.socket_id] = counts
            started, lost = counts[0] - started_before, counts[1] - failed_before
            if lost >= FLOOD and lost * 10 >= started * 9:
                remote = answer.socket.remote.tcpip_address
                flooding.add((_address(remote.ip_address), remote.port))
        if flooding:
            closed = sum(_shut(one) for name, _, one in self._all(_numbers()) if name in flooding)
            self._note(closed, "streams were opened and reset")

    def _note(self, closed: int, why: str) -> None:
        self.closed += closed
        if closed and (more := self._lines.let()) is not None:
            log.warning("connections were closed", why=why, connections=closed, **more)

    def _all(self, numbers: Collection[int]) -> Iterator[tuple[tuple[str, int], int, socket.socket]]:
        """Connections to our port among these descriptors, in their order: the peer's address and port, the descriptor,
        and a socket that is valid until the next one."""
        for number in sorted(numbers):
            with _duplicate(number) as one:
                if one is None:
                    continue
                with suppress(OSError):
                    if one.family in {socket.AF_INET, socket.AF_INET6} and one.getsockname()[1] == self.port:
                        address, port = one.getpeername()[:2]
                        yield (address.removeprefix("::ffff:"), port), number, one


def _numbers() -> list[int]:
    try:
        with os.scandir(_SOCKETS) as found:
            return [int(one.name) for one in found]
    except OSError:
        return []


def _descriptors() -> int:
    return len(_numbers())


@contextmanager
def _duplicate(number: int) -> Iterator[socket.socket | None]:
    """A socket of its own for a descriptor, which may be closed or used again at any time; None: it is no socket."""
    try:
        copy = os.dup(number)
    except OSError:
        yield None
        return
    try:
        one = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        yield None
        return
    with one:
        yield one


def _shut(one: socket.socket) -> int:
    """Ends a connection. gRPC meets its end, and closes the descriptor."""
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return 0
    return 1


def _trim() -> None:
    """Gives free memory back to the system: the C library keeps what is between pieces that are in use
    (eventlog/runtime/interpreter.py). Takes a few milliseconds. Does nothing where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _address(packed: bytes) -> str:
    try:
        return str(ipaddress.ip_address(packed)).removeprefix("::ffff:")
    except ValueError:
        return ""


def _named(peer: str) -> tuple[str, int]:
    """`ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000` -> address and port."""
    address, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return address.strip("[]").removeprefix("::ffff:"), int(port) if port.isdigit() else 0
