"""How long calls wait before this process gets to them, and which are refused because of it.

gRPC keeps the calls that the event loop has not taken yet, in their order, and does not say how long they wait. Its
channelz counters do say how many calls have come and how many have ended; together with the calls that are in our
handlers this gives the length of the queue, and with the rate at which the event loop takes calls, the wait. All of it
is read inside the process: there is no call of the process to itself, and no socket for one.

The counters leave out calls that were reset before the event loop took them: these have come and never end. After a
flood of 5,000 resets the queue would look 2,700 calls long for ever. So before calls are refused the open streams of
all connections are added up, and the difference is left out from then on.

While calls wait too long, others are refused before any work is done for them. A refusal costs a third of an answer, so
refusals are limited as well: a process that refused all calls at five times its load would do nothing else. gRPC drops
the calls beyond that limit (MAX_PENDING of chassis/rpc/server.py). To be used on the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog
from grpc_channelz.v1 import channelz_pb2
from grpc_channelz.v1._servicer import ChannelzServicer

from chassis.admission.rate_limit import Bucket, Limit

log = structlog.stdlib.get_logger(__name__)

#: Seconds that calls may wait for the event loop before others are refused for their sake: not once, but so many times
#: one after the other. One long step of the loop makes no queue, and a burst is over within three looks.
MAX_WAIT_S = 0.25
IN_A_ROW = 3
#: Refusals for that reason a second, and at once: a burst is refused as a whole, a flood is not.
REFUSALS = Limit(200, 1_000)
#: Seconds between two looks at the counters, and calls in that time below which the counters are left alone.
POLL_INTERVAL_S = 0.25
FEW = 10
#: Seconds between two recounts of the open streams, while calls are refused.
RECOUNT_S = 2.0


class LoadShedder:
    """How long calls wait, and the consequences."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._refusals = Bucket(REFUSALS, clock)
        self._waits: deque[float] = deque([0.0] * IN_A_ROW, IN_A_ROW)
        self._least = 0.0
        #: Calls that the event loop has taken so far, and those of them that are in a handler now.
        self.taken = 0
        self.active = 0

    @property
    def wait_s(self) -> float:
        """Seconds that calls waited the last few times, at least."""
        return self._least

    def begin(self) -> None:
        """The event loop has taken a call."""
        self.taken += 1
        self.active += 1

    def end(self) -> None:
        """A handler has ended."""
        self.active -= 1

    def refuses(self) -> bool:
        """Whether a call that has come is to be refused. To be asked once for each."""
        return self._least > MAX_WAIT_S and not self._refusals.take()

    def measured(self, waiting: int, taken: int, seconds: float) -> None:
        """`waiting` calls are in gRPC's queue, after a time of so many seconds in which the event loop took some."""
        self._note(wait_of(waiting, taken, seconds))

    def calm(self) -> None:
        """Hardly anybody calls."""
        self._note(0.0)

    def _note(self, wait_s: float) -> None:
        self._waits.append(wait_s)
        self._least = min(self._waits)


class Counters:
    """The counters of one server in channelz. To be made just before the server; `found` is called just after."""

    def __init__(self) -> None:
        self._before = _servers()
        self._id = 0
        #: Calls that have come and will never end.
        self._lost = 0

    @property
    def server_id(self) -> int:
        """Channelz's number of the server; 0: not known."""
        return self._id

    def found(self) -> None:
        """Finds the server that was made since."""
        fresh = _servers() - self._before
        # Another thread made one as well: the server's own is not known then.
        self._id = fresh.pop() if len(fresh) == 1 else 0

    def unfinished(self) -> int | None:
        """Calls that have come and have not ended; None where it is not known."""
        if not self._id:
            return None
        answer = ChannelzServicer.GetServer(channelz_pb2.GetServerRequest(server_id=self._id), NOBODY)
        if answer is None:
            return None
        data = answer.server.data
        return int(data.calls_started - data.calls_succeeded - data.calls_failed) - self._lost

    async def recount(self) -> None:
        """Finds the calls that have come and will never end, from the streams of each connection."""
        counted, streams, start = self.unfinished(), 0, 0
        if counted is None:
            return
        while True:
            request = channelz_pb2.GetServerSocketsRequest(server_id=self._id, start_socket_id=start)
            page = ChannelzServicer.GetServerSockets(request, NOBODY)
            for ref in page.socket_ref if page else ():
                start = max(start, ref.socket_id + 1)
                one = ChannelzServicer.GetSocket(channelz_pb2.GetSocketRequest(socket_id=ref.socket_id), NOBODY)
                if one is not None:
                    data = one.socket.data
                    streams += data.streams_started - data.streams_succeeded - data.streams_failed
                # Each takes 0.1 ms and more.
                await asyncio.sleep(0)
            if page is None or page.end or not page.socket_ref:
                break
        # Calls that came or ended meanwhile are few beside those of a flood, and counted right the next time.
        self._lost = max(self._lost + counted - streams, 0)

    def low(self, unfinished: int) -> None:
        """There are fewer calls than can be: too many were taken for lost."""
        self._lost = max(self._lost + unfinished, 0)


async def measure(pressure: LoadShedder, counters: Counters) -> None:
    """Measures until it is cancelled."""
    if counters.unfinished() is None:
        # The limits on calls in flight hold all the same.
        log.warning("how long calls wait can't be measured here")
        return
    since, before = time.monotonic(), pressure.taken
    recounted = -RECOUNT_S
    while True:
        await asyncio.sleep(POLL_INTERVAL_S)
        now = time.monotonic()
        seconds, taken = now - since, pressure.taken - before
        since, before = now, pressure.taken
        # A loop that was held up for long took few calls, however many wait.
        unfinished = counters.unfinished() if taken >= FEW or seconds > MAX_WAIT_S else None
        if unfinished is None:
            pressure.calm()
            continue
        waiting = unfinished - pressure.active
        if wait_of(waiting, taken, seconds) > MAX_WAIT_S and now - recounted >= RECOUNT_S:
            recounted = now
            await counters.recount()
            waiting = (counters.unfinished() or 0) - pressure.active
        if waiting < 0:
            counters.low(waiting)
        pressure.measured(max(waiting, 0), taken, seconds)


def wait_of(waiting: int, taken: int, seconds: float) -> float:
    """Seconds that the last of `waiting` calls waits, after a time of so many seconds in which some were taken."""
    if taken:
        return waiting * seconds / taken
    return seconds if waiting > 0 else 0.0


class _Nobody:
    """Takes the place of a call's context: the counters are asked for by no call."""

    def set_code(self, code: object) -> None:
        """The server is gone, or its answer can't be parsed: the answer is None then."""

    def set_details(self, details: object) -> None:
        """As above."""


NOBODY: Any = _Nobody()


def _servers() -> set[int]:
    found: set[int] = set()
    while True:
        request = channelz_pb2.GetServersRequest(start_server_id=max(found, default=-1) + 1)
        answer = ChannelzServicer.GetServers(request, NOBODY)
        found |= {one.ref.server_id for one in answer.server} if answer else set()
        if answer is None or answer.end or not answer.server:
            return found
