"""The open channels of the operators' pages, made on first use and closed some time after their last viewer left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from console.web.channel import Channel

C = TypeVar("C", bound=Channel)
K = TypeVar("K")

#: Seconds for which a channel without viewers stays open.
IDLE_S = 30.0


class Crowded(Exception):
    """There are too many channels with viewers."""


class Channels(Generic[K, C]):
    """Channels by key."""

    def __init__(self, limit: int, make: Callable[[K], C]) -> None:
        self._limit = limit
        self._make = make
        self._open: dict[K, C] = {}
        self._used_s: dict[K, float] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def get(self, key: K) -> C:
        """The channel of a key. Raises Crowded."""
        self._used_s[key] = time.monotonic()
        found = self._open.get(key)
        if found is None:
            if len(self._open) >= self._limit:
                self.sweep(idle_s=0.0)
            if len(self._open) >= self._limit:
                del self._used_s[key]
                raise Crowded
            found = self._open[key] = self._make(key)
        return found

    def all(self) -> list[C]:
        """All open channels."""
        return list(self._open.values())

    def sweep(self, idle_s: float = IDLE_S) -> None:
        """Closes the channels that nobody looked at for a while."""
        now_s = time.monotonic()
        for key, channel in list(self._open.items()):
            if channel.viewers:
                self._used_s[key] = now_s
            elif now_s - self._used_s[key] >= idle_s:
                del self._open[key], self._used_s[key]
                task = asyncio.get_running_loop().create_task(channel.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Closes all."""
        await asyncio.gather(*self._closing, *(one.close() for one in self._open.values()), return_exceptions=True)
        self._open.clear()
