"""How long calls wait before this process gets to them, and which are told to come back because of it.

gRPC keeps the calls that the event loop hasn't got to yet, in the order in which they came, and does not say for how
long. So a call of our own joins their queue now and then, and is timed. While it waits too long, calls are refused
before any work is done for them. A refusal costs a third of an answer, so there is a bound on them as well: a process
that refused all that came at five times its load would do nothing else. What is beyond that bound is left to gRPC
(MAX_PENDING of chassis/server.py). Must only be used on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from chassis.ratelimit import Bucket, Limit

log = structlog.stdlib.get_logger(__name__)

#: Seconds that calls may wait for the event loop before others are refused for their sake: not once, but so many times
#: one after the other. What comes and goes with a long step of the loop is no queue.
MOST_WAIT_S = 0.25
IN_A_ROW = 3
#: Refusals for that reason a second, and at once: a burst is refused as a whole, a flood is not.
REFUSALS = Limit(200, 1_000)
#: Seconds between two calls of our own, and calls in that time below which there is nothing to measure.
PROBE_S = 0.05
FEW = 10
#: Seconds after which a call of ours is given up.
GIVEN_UP_S = 10.0

SERVICE = "groupbuy.chassis.Queue"
METHOD = "Wait"


class Pressure:
    """What is known of the queue, and what follows from it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._clock = clock
        self._refusals = Bucket(REFUSALS, clock)
        self._waits: deque[float] = deque([0.0] * IN_A_ROW, IN_A_ROW)
        self._least = 0.0
        self._sent = 0.0
        #: Calls so far.
        self.calls = 0

    def refuses(self) -> bool:
        """Whether a call that has come is to be refused. To be asked once for each."""
        self.calls += 1
        return self._least > MOST_WAIT_S and not self._refusals.take()

    def sent(self) -> None:
        """A call of our own has been sent."""
        self._sent = self._clock()

    def heard(self) -> None:
        """The event loop has got to it."""
        self._note(self._clock() - self._sent)

    def lost(self) -> None:
        """It was dropped, as gRPC does where calls wait for too long."""
        self._note(math.inf)

    def calm(self) -> None:
        """Hardly anybody calls."""
        self._note(0.0)

    def _note(self, waited_s: float) -> None:
        self._waits.append(waited_s)
        self._least = min(self._waits)


class Probe:
    """Sends the calls that are timed, from the process to itself, where nobody but this machine can send any."""

    def __init__(self, server: grpc.aio.Server, pressure: Pressure) -> None:
        self._pressure = pressure
        self._address = ""
        # The port for callers serves the method too, and whoever could call it would say how long calls wait.
        self._secret = os.urandom(16)
        self._server = server
        handler = grpc.unary_unary_rpc_method_handler(self._heard)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))

    def bind(self) -> None:
        """Takes an address of its own. Must be called before the server starts."""
        address = f"unix-abstract:groupbuy-{os.getpid()}-{id(self):x}"
        try:
            self._server.add_insecure_port(address)
        except RuntimeError as error:
            # Not on every system; the bounds on what is under way hold all the same.
            log.warning("how long calls wait can't be measured here", error=str(error))
            return
        self._address = address

    async def run(self) -> None:
        """Measures until it is cancelled."""
        if not self._address:
            return
        async with grpc.aio.insecure_channel(self._address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            call: Any = channel.unary_unary(f"/{SERVICE}/{METHOD}", None, None)
            before = 0
            while True:
                await asyncio.sleep(PROBE_S)
                calls, before = self._pressure.calls - before, self._pressure.calls
                if calls < FEW:
                    self._pressure.calm()
                    continue
                self._pressure.sent()
                try:
                    await call(self._secret, timeout=GIVEN_UP_S)
                except grpc.aio.AioRpcError:
                    self._pressure.lost()

    async def _heard(self, request: bytes, context: Any) -> bytes:
        if not hmac.compare_digest(request, self._secret):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        self._pressure.heard()
        return b""
