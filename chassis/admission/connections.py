"""Limits on the gRPC server's connections, and the end of connections whose peers misbehave.

gRPC accepts a limited number of connections and closes any further one at once. It has no limit an address, and no way
to end one connection. This module therefore reads the process's own sockets. It limits the connections of one address,
and closes those of a peer that leaves answers unread or opens and resets streams by the thousand. The peer's calls end
with UNAVAILABLE; a gRPC client reconnects.

Only Linux lists a process's sockets. Elsewhere gRPC's own limits apply, and this module does nothing.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

import structlog
from grpc_channelz.v1 import channelz_pb2
from grpc_channelz.v1._servicer import ChannelzServicer

from chassis.admission.address_block import AddressBlock
from chassis.admission.closed_peers import ClosedPeers, Peer, address_of, peer_of
from chassis.admission.load_shedder import NO_CONTEXT
from chassis.admission.rate_limit import LogThrottle, RateLimit

log = structlog.stdlib.get_logger(__name__)

#: Connections of the process, and of one address. Half of the file descriptors are left to everything else. gRPC keeps
#: about 7 KB for each connection of the highest number it ever had, so one address costs at most 7 MB for good.
MAX_CONNECTIONS = 4_000
MAX_PER_ADDRESS = 1_000
#: Open streams of one connection. A gRPC client delays further calls.
MAX_STREAMS = 10_000
#: Failed calls of all connections in one interval from which single connections are inspected, and failed calls of one
#: connection from which it is closed if they are 90% of its ended calls.
SUSPICIOUS_FAILURES = 300
FLOOD_FAILURES = 300
#: Seconds between two sweeps. A flood opens 700 streams in one; 2,000 fill gRPC's queue (chassis/rpc/server.py).
POLL_INTERVAL_S = 0.05
#: Sweeps in which failed calls are added up, and after which descriptors are counted again.
INTERVAL = 5
#: Processor time of other threads since the last sweep, in seconds, from which the server's calls are counted. They are
#: counted in the last sweep of each interval anyway: channelz takes 0.07 ms, and 0.015 ms more for each connection.
#: Reading the streams of a flood takes the gRPC threads all the time that they get.
READING_S = 0.01
#: Connections inspected in one sweep: each costs 0.1 ms. The next sweep inspects those after them.
MAX_INSPECTED = 200
#: Closed connections from which their memory, 8 KB each, is returned to the system at once.
TRIM_AFTER = 500
#: Intervals after which it is returned again: gRPC frees a part of it seconds after it has closed the descriptors.
TRIM_AGAIN = (40, 120)
#: Additional descriptors from which the connections of each address are counted again: 10 us a descriptor.
RECOUNT_AFTER = 100
LOG_RATE = RateLimit(1, 10)

_SOCKETS = "/proc/self/fd"


def raise_descriptors() -> int:
    """Raises the soft limit of file descriptors to the hard limit, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def max_connections() -> int:
    """The limit of the server's connections."""
    return min(MAX_CONNECTIONS, raise_descriptors() // 2)


class Connections:
    """The connections of the server on one port. Used on the event loop's thread only."""

    def __init__(self, server_id: int, closed_peers: ClosedPeers) -> None:
        """`server_id` is channelz's number of the server; with 0, unknown, it does not look for floods."""
        self.port = 0
        self.max_per_address = MAX_PER_ADDRESS
        #: Connections closed so far.
        self.closed = 0
        self._id = server_id
        self._closed_peers = closed_peers
        self._failed = 0
        #: Sweeps of the current interval so far.
        self._sweep = 0
        #: Processor time of the other threads at the last sweep, in seconds.
        self._others_s = 0.0
        #: Channelz's number of the connection from which the next sweep inspects.
        self._inspect_from = 0
        #: Most descriptors since memory was last returned.
        self._peak = 0
        #: Intervals since then.
        self._intervals = max(TRIM_AGAIN)
        #: Descriptors when the connections of each address were last counted.
        self._counted_at = 0
        #: Calls answered and failed by the end of the last interval and by now, by channelz's number of the connection.
        self._before: dict[int, tuple[int, int]] = {}
        self._latest: dict[int, tuple[int, int]] = {}
        self._block = AddressBlock()
        self._log_throttle = LogThrottle(LOG_RATE)

    def close(self, peers: Collection[str], why: str) -> int:
        """Closes the connections of peers, named as gRPC names them, and returns their number."""
        wanted = {peer_of(peer) for peer in peers}
        closed = 0
        if wanted:
            for found, _, one in self._all(_numbers()):
                if found in wanted:
                    closed += _shut(one)
            self._log(closed, why)
        return closed

    def sweep(self) -> None:
        """Closes surplus connections of an address and connections that flood. Call it every POLL_INTERVAL_S."""
        self._sweep = self._sweep % INTERVAL + 1
        if self._sweep == INTERVAL:
            self._close_surplus()
            if self._block.expire():
                self._apply_block()
        others_s = time.process_time() - time.thread_time()
        reading_s, self._others_s = others_s - self._others_s, others_s
        if self._id and (self._sweep == INTERVAL or reading_s >= READING_S):
            self._close_floods()

    def _close_surplus(self) -> None:
        """Closes the newest connections of an address first: as a rule they have the highest descriptors."""
        now = _descriptors()
        self._peak = max(self._peak, now)
        self._intervals += 1
        if self._peak - now >= TRIM_AFTER and now * 2 < self._peak:
            self._peak = now
            self._intervals = 0
            _trim()
        elif self._intervals in TRIM_AGAIN:
            _trim()
        if now <= max(self.max_per_address, self._counted_at + RECOUNT_AFTER):
            self._counted_at = min(self._counted_at, now)
            return
        self._counted_at = now
        by_address: defaultdict[str, list[int]] = defaultdict(list)
        for (address, _), number, _ in self._all(_numbers()):
            by_address[address].append(number)
        surplus = {one: address for address, all_ in by_address.items() for one in all_[self.max_per_address :]}
        if surplus:
            # The descriptor may belong to another connection by now.
            found = self._all(surplus)
            closed = sum(_shut(one) for (address, _), number, one in found if surplus[number] == address)
            self._log(closed, "an address has too many")

    def close_flood(self, peer: str) -> None:
        """Closes the connection of a peer that floods, named as gRPC names it."""
        self._end_floods({peer_of(peer)})

    def _end_floods(self, flooding: Collection[Peer]) -> None:
        """Closes connections, drops their calls, and blocks the addresses of repeated floods."""
        closed = [peer for peer, _, one in self._all(_numbers()) if peer in flooding and _shut(one)]
        self._log(len(closed), "streams were opened and reset")
        for peer in closed:
            self._closed_peers.add(peer)
        changed = [self._block.report(address) for address, _ in closed]
        if any(changed):
            self._apply_block()

    def _close_floods(self) -> None:
        data = ChannelzServicer.GetServer(channelz_pb2.GetServerRequest(server_id=self._id), NO_CONTEXT).server.data
        # calls_failed leaves out calls that were reset before the event loop took them.
        failed = data.calls_started - data.calls_succeeded
        suspicious = failed - self._failed >= SUSPICIOUS_FAILURES
        if suspicious and (flooding := self._inspect()):
            self._end_floods(flooding)
        if self._sweep == INTERVAL:
            self._failed = failed
            self._before, self._latest = (self._latest if suspicious else {}), {}

    def _inspect(self) -> set[Peer]:
        """Address and port of each peer whose calls failed by the hundred in this interval."""
        request = channelz_pb2.GetServerSocketsRequest(
            server_id=self._id, start_socket_id=self._inspect_from, max_results=MAX_INSPECTED
        )
        found = ChannelzServicer.GetServerSockets(request, NO_CONTEXT)
        self._inspect_from = 0 if found.end or not found.socket_ref else found.socket_ref[-1].socket_id + 1
        flooding = set()
        for ref in found.socket_ref:
            answer = ChannelzServicer.GetSocket(channelz_pb2.GetSocketRequest(socket_id=ref.socket_id), NO_CONTEXT)
            if answer is None:
                continue
            # Those that were reset but wait in gRPC's queue are in neither number.
            counts = answer.socket.data.streams_succeeded, answer.socket.data.streams_failed
            answered_before, failed_before = self._before.get(ref.socket_id, (0, 0))
            self._latest[ref.socket_id] = counts
            answered, lost = counts[0] - answered_before, counts[1] - failed_before
            if lost >= FLOOD_FAILURES and lost >= answered * 9:
                remote = answer.socket.remote.tcpip_address
                flooding.add((address_of(remote.ip_address), remote.port))
        return flooding

    def _apply_block(self) -> None:
        for _, one in self._sockets(_numbers()):
            with suppress(OSError):
                # A duplicate shares the filter of the listening socket.
                if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    self._block.apply(one)
        log.warning("new connections of addresses are refused", addresses=self._block.blocked)

    def _log(self, closed: int, why: str) -> None:
        self.closed += closed
        if closed and (more := self._log_throttle.allow()) is not None:
            log.warning("connections were closed", why=why, connections=closed, **more)

    def _all(self, numbers: Collection[int]) -> Iterator[tuple[Peer, int, socket.socket]]:
        """Connections to our port among these descriptors, in order: the peer's address and port, the descriptor, and
        a socket that is valid until the next item."""
        for number, one in self._sockets(numbers):
            with suppress(OSError):
                address, port = one.getpeername()[:2]
                yield (address.removeprefix("::ffff:"), port), number, one

    def _sockets(self, numbers: Collection[int]) -> Iterator[tuple[int, socket.socket]]:
        """Sockets of our port among these descriptors, in order. Each is valid until the next item."""
        for number in sorted(numbers):
            with _duplicate(number) as one, suppress(OSError):
                if (
                    one is not None
                    and one.family in {socket.AF_INET, socket.AF_INET6}
                    and one.getsockname()[1] == self.port
                ):
                    yield number, one


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
    """A duplicate of a descriptor, which may be closed or reused at any time, as a socket; None if it is no socket."""
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
    """Resets a connection and drops what it has sent; returns 1 if it was open. gRPC notices and closes the descriptor.

    After a shutdown, gRPC would still read what lies in the receive buffer: 40,000 streams of a flood.
    """
    try:
        one.getpeername()
    except OSError:
        return 0
    # Python's connect knows no AF_UNSPEC, which disconnects (connect(2)).
    ctypes.CDLL(None).connect(one.fileno(), bytes(16), 16)
    return 1


def _trim() -> None:
    """Returns free memory to the system: glibc keeps free blocks between used ones (eventlog/runtime/interpreter.py).

    Takes a few milliseconds. Does nothing without glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
