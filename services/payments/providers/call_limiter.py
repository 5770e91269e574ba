"""Client-side rate limit of the requests to one provider, in one process.

Requests above the rate wait for their turn. If the queue is longer than MAX_WAIT_S, a request is not made and its call
is retried later through the log. A provider that answers 429 pauses all requests until the time that it asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from chassis.admission.rate_limit import RateLimit, TokenBucket
from chassis.outside.call_errors import NotYet

T = TypeVar("T")

#: Longest time in seconds that a request waits for its turn.
MAX_WAIT_S = 2.0
#: Longest pause in seconds after a 429.
MAX_PAUSE_S = 60.0


class CallLimiter:
    """Lets requests through at a rate. Used on one event loop."""

    def __init__(self, calls_per_second: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        """`calls_per_second` is the rate, with a burst of one second; 0: no limit. `clock` in seconds."""
        limit = RateLimit(calls_per_second, max(1, int(calls_per_second)))
        self._bucket = TokenBucket(limit, clock) if calls_per_second > 0 else None
        self._clock = clock
        self._paused_until_s = 0.0

    async def acquire(self) -> None:
        """Waits for a request's turn. Raises NotYet if that would take too long."""
        paused_s = self._paused_until_s - self._clock()
        queued_s = self._bucket.debt_s() if self._bucket is not None else 0.0
        if (wait_s := max(paused_s, queued_s)) > MAX_WAIT_S:
            raise NotYet("the rate limit of requests to the provider is reached", after_ms=int(wait_s * 1000) + 1)
        if self._bucket is not None:
            queued_s = self._bucket.overdraw()
        if (wait_s := max(paused_s, queued_s)) > 0:
            await asyncio.sleep(wait_s)

    def pause(self, after_ms: int) -> None:
        """Makes no requests for a time: the provider answered 429."""
        until_s = self._clock() + min(after_ms / 1000, MAX_PAUSE_S)
        self._paused_until_s = max(self._paused_until_s, until_s)

    def limited(self, attempt: Callable[[float], Awaitable[T]]) -> Callable[[float], Awaitable[T]]:
        """The same request, after its turn has come."""

        async def after_turn(timeout_s: float) -> T:
            await self.acquire()
            return await attempt(timeout_s)

        return after_turn
