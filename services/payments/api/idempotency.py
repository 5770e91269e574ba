"""Recognises work that was done already: a repeat costs a look-up, in bounded memory. On the event loop only."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from eventlog.core.errors import BrokerUnavailable

T = TypeVar("T")


class Repeats(Generic[T]):
    """Results by key, for `life_s` seconds, `most` at most. The oldest is evicted: its repeat is work again."""

    def __init__(self, most: int, life_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._most = most
        self._life_s = life_s
        self._clock = clock
        self._done: OrderedDict[bytes, tuple[float, T]] = OrderedDict()
        self._doing: dict[bytes, asyncio.Future[T]] = {}

    def __len__(self) -> int:
        return len(self._done)

    async def once(self, key: bytes, work: Callable[[], Awaitable[T]], timeout_s: float) -> T:
        """The result of the work for a key, done once however many ask, at the same time or later.

        A failure is remembered for nobody but those who wait for it. Raises as `work`, and BrokerUnavailable where the
        work of another caller takes longer than `timeout_s`, or was given up.
        """
        self._expire()
        if (done := self._done.get(key)) is not None:
            return done[1]
        if (doing := self._doing.get(key)) is not None:
            try:
                async with asyncio.timeout(timeout_s):
                    return await asyncio.shield(doing)
            except TimeoutError:
                raise BrokerUnavailable("the same is being appended, and takes too long") from None
        doing = self._doing[key] = asyncio.get_running_loop().create_future()
        try:
            result = await work()
        except BaseException as error:
            failed = error if isinstance(error, Exception) else BrokerUnavailable("the first attempt was given up")
            doing.set_exception(failed)
            # Often nobody else waits for it.
            doing.exception()
            raise
        else:
            doing.set_result(result)
            self._done[key] = (self._clock() + self._life_s, result)
            if len(self._done) > self._most:
                self._done.popitem(last=False)
            return result
        finally:
            del self._doing[key]

    def _expire(self) -> None:
        now = self._clock()
        while self._done:
            key = next(iter(self._done))
            if self._done[key][0] > now:
                return
            del self._done[key]
