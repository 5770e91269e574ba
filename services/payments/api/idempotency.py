"""A cache that runs the work of a key once, for duplicate requests. Bounded memory; for one event loop."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from eventlog.core.errors import BrokerUnavailable

T = TypeVar("T")


class IdempotencyCache(Generic[T]):
    """Results by key, kept for `ttl_s` seconds, at most `capacity` of them. The oldest is evicted first."""

    def __init__(self, capacity: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._capacity = capacity
        self._ttl_s = ttl_s
        self._clock = clock
        self._done: OrderedDict[bytes, tuple[float, T]] = OrderedDict()
        self._in_flight: dict[bytes, asyncio.Future[T]] = {}

    def __len__(self) -> int:
        return len(self._done)

    async def once(self, key: bytes, work: Callable[[], Awaitable[T]], timeout_s: float) -> T:
        """The result of the work of a key. Concurrent and later callers of the key share one run.

        A failure is not cached; callers that wait for the run get it too. Raises as `work`, and BrokerUnavailable if
        another caller's run takes longer than `timeout_s` or is cancelled.
        """
        self._expire()
        if (done := self._done.get(key)) is not None:
            return done[1]
        if (running := self._in_flight.get(key)) is not None:
            try:
                async with asyncio.timeout(timeout_s):
                    return await asyncio.shield(running)
            except TimeoutError:
                raise BrokerUnavailable("the same record is being appended, which takes too long") from None
        running = self._in_flight[key] = asyncio.get_running_loop().create_future()
        try:
            result = await work()
        except BaseException as error:
            failed = error if isinstance(error, Exception) else BrokerUnavailable("the first attempt was cancelled")
            running.set_exception(failed)
            # Marks the exception as retrieved: often no other caller waits for it.
            running.exception()
            raise
        else:
            running.set_result(result)
            self._done[key] = (self._clock() + self._ttl_s, result)
            if len(self._done) > self._capacity:
                self._done.popitem(last=False)
            return result
        finally:
            del self._in_flight[key]

    def _expire(self) -> None:
        now = self._clock()
        while self._done:
            key = next(iter(self._done))
            if self._done[key][0] > now:
                return
            del self._done[key]
