"""Load shedding: measures how long calls wait for the event loop, and refuses calls while they wait too long.

gRPC queues the calls that the event loop has not taken yet and does not report their wait. Its channelz counters
report started and ended calls. Less the calls in our handlers, that is the length of the queue; divided by the rate at
which the event loop takes calls, it is the wait. Everything is read inside the process: the process does not call
itself and has no socket for that.

The counters miss calls that were reset before the event loop took them: these started and never end. After a flood of
5,000 resets the queue would look 2,700 calls long for ever. So before calls are refused, the open streams of all
connections are added up, and the difference is deducted from then on.

While calls wait too long, further calls are refused before any work is done for them. A refusal costs a third of an
answer, so refusals are limited too: a process that refuses every call at five times its capacity does nothing else.
gRPC drops the calls beyond that limit (MAX_PENDING in chassis/rpc/server.py).

Used on the event loop's thread only.
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

from chassis.admission.rate_limit import RateLimit, TokenBucket

log = structlog.stdlib.get_logger(__name__)

#: Calls are refused after this wait in seconds, measured in so many samples in a row. One long step of the loop builds
#: no queue, and a burst is over within three samples.
MAX_WAIT_S = 0.25
SAMPLES = 3
#: Refusals for that reason: a burst is refused as a whole, a flood is not.
REFUSALS = RateLimit(200, 1_000)
#: Calls in gRPC's queue from which it is a flood and no burst; seconds without a refusal after which it is over.
MAX_BURST = 800
OVERLOADED_S = 1.0
#: Seconds after a flood was cut off in which its calls, which are dropped, do not count as waiting.
CUT_OFF_S = 1.0
#: Seconds between two samples, and the number of calls in that time below which the counters are not read.
POLL_INTERVAL_S = 0.25
MIN_CALLS = 10
#: Seconds between two recounts of the open streams, while calls are refused.
RECOUNT_S = 2.0


class LoadShedder:
    """Decides from the measured waits which calls are refused."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._clock = clock
        self._overloaded_until = self._ignores_until = clock()
        self._refusals = TokenBucket(REFUSALS, clock)
        self._waits: deque[float] = deque([0.0] * SAMPLES, SAMPLES)
        self._wait_s = 0.0
        #: Calls that the event loop has taken so far, and those of them that are in a handler now.
        self.taken = 0
        self.active = 0

    @property
    def wait_s(self) -> float:
        """Shortest wait in seconds among the last samples."""
        return self._wait_s

    def begin(self) -> None:
        """Counts a call that the event loop takes."""
        self.taken += 1
        self.active += 1

    def end(self) -> None:
        """Counts a handler that ended."""
        self.active -= 1

    @property
    def overloaded(self) -> bool:
        """Whether the gate refuses calls for which the event loop has no room (chassis/rpc/gate.py).

        It begins with a long wait or a long queue. As refusals empty the queue at once, it goes on until none was
        necessary for a while.
        """
        return self._wait_s > MAX_WAIT_S or self._clock() < self._overloaded_until

    def flood_cut_off(self) -> None:
        """Refuses nothing for the calls of a flood that was cut off: they wait in gRPC, and are dropped."""
        self._ignores_until = self._clock() + CUT_OFF_S
        self._overloaded_until = self._clock()
        for _ in range(SAMPLES):
            self.record_idle()

    def refused(self) -> None:
        """Counts a refusal at the gate."""
        self._overloaded_until = self._clock() + OVERLOADED_S

    def refuses(self) -> bool:
        """Whether to refuse this call. Call it once for each call: a refusal uses up a token."""
        return self._wait_s > MAX_WAIT_S and not self._refusals.take()

    def record(self, waiting: int, taken: int, seconds: float) -> None:
        """Adds a sample: the length of gRPC's queue, and the calls taken from it in the last `seconds`."""
        if self._clock() < self._ignores_until:
            self.record_idle()
            return
        if waiting > MAX_BURST:
            self._overloaded_until = self._clock() + OVERLOADED_S
        self._add(queue_wait_s(waiting, taken, seconds))

    def record_idle(self) -> None:
        """Adds a sample without a wait: there are hardly any calls."""
        self._add(0.0)

    def _add(self, wait_s: float) -> None:
        self._waits.append(wait_s)
        self._wait_s = min(self._waits)


class ChannelzCounters:
    """The channelz counters of one server. Create it just before the server and call `find_server` just after."""

    def __init__(self) -> None:
        self._before = _servers()
        self._id = 0
        #: Calls that started and will never end.
        self._lost = 0

    @property
    def server_id(self) -> int:
        """Channelz's number of the server; 0 if unknown."""
        return self._id

    def find_server(self) -> None:
        """Finds the server that was created since."""
        fresh = _servers() - self._before
        # If another thread created one as well, the server's own number is unknown.
        self._id = fresh.pop() if len(fresh) == 1 else 0

    def unfinished(self) -> int | None:
        """Calls that started and have not ended; None if unknown."""
        if not self._id:
            return None
        answer = ChannelzServicer.GetServer(channelz_pb2.GetServerRequest(server_id=self._id), NO_CONTEXT)
        if answer is None:
            return None
        data = answer.server.data
        return int(data.calls_started - data.calls_succeeded - data.calls_failed) - self._lost

    async def recount(self) -> None:
        """Finds the calls that will never end, from the open streams of each connection."""
        counted, streams, start = self.unfinished(), 0, 0
        if counted is None:
            return
        while True:
            request = channelz_pb2.GetServerSocketsRequest(server_id=self._id, start_socket_id=start)
            page = ChannelzServicer.GetServerSockets(request, NO_CONTEXT)
            for ref in page.socket_ref if page else ():
                start = max(start, ref.socket_id + 1)
                one = ChannelzServicer.GetSocket(channelz_pb2.GetSocketRequest(socket_id=ref.socket_id), NO_CONTEXT)
                if one is not None:
                    data = one.socket.data
                    streams += data.streams_started - data.streams_succeeded - data.streams_failed
                # Each takes 0.1 ms and more.
                await asyncio.sleep(0)
            if page is None or page.end or not page.socket_ref:
                break
        # Calls that started or ended meanwhile are few beside a flood's; the next recount corrects them.
        self._lost = max(self._lost + counted - streams, 0)

    def correct(self, queue: int) -> None:
        """Corrects a recount that deducted too many calls: the length of the queue came out negative."""
        self._lost = max(self._lost + queue, 0)


async def measure_queue(shedder: LoadShedder, counters: ChannelzCounters) -> None:
    """Samples the queue until cancelled."""
    if counters.unfinished() is None:
        # The limits on calls in flight still apply.
        log.warning("channelz does not list the server: the wait of calls can't be measured")
        return
    since, before = time.monotonic(), shedder.taken
    recounted = -RECOUNT_S
    while True:
        await asyncio.sleep(POLL_INTERVAL_S)
        now = time.monotonic()
        seconds, taken = now - since, shedder.taken - before
        since, before = now, shedder.taken
        # After a long step of the loop few calls were taken, however many wait.
        unfinished = counters.unfinished() if taken >= MIN_CALLS or seconds > MAX_WAIT_S else None
        if unfinished is None:
            shedder.record_idle()
            continue
        waiting = unfinished - shedder.active
        if queue_wait_s(waiting, taken, seconds) > MAX_WAIT_S and now - recounted >= RECOUNT_S:
            recounted = now
            await counters.recount()
            waiting = (counters.unfinished() or 0) - shedder.active
        if waiting < 0:
            counters.correct(waiting)
        shedder.record(max(waiting, 0), taken, seconds)


def queue_wait_s(waiting: int, taken: int, seconds: float) -> float:
    """Seconds until the last of `waiting` calls is taken, at the rate of the last `seconds`."""
    if taken:
        return waiting * seconds / taken
    return seconds if waiting > 0 else 0.0


class _NoContext:
    """Stands in for the context of a call: the process reads the counters without one."""

    def set_code(self, code: object) -> None:
        """Ignores the code: the server is gone or its answer can't be parsed, and the answer is None."""

    def set_details(self, details: object) -> None:
        """Ignores the details, as above."""


NO_CONTEXT: Any = _NoContext()


def _servers() -> set[int]:
    found: set[int] = set()
    while True:
        request = channelz_pb2.GetServersRequest(start_server_id=max(found, default=-1) + 1)
        answer = ChannelzServicer.GetServers(request, NO_CONTEXT)
        found |= {one.ref.server_id for one in answer.server} if answer else set()
        if answer is None or answer.end or not answer.server:
            return found
