"""Room for a bounded number of things under way, where one call may bring many. First come, first served.

Must only be used on the event loop's thread, and everything taken must be given back.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Room:
    """Places for `limit` things. More than that may come in one piece only where nothing else is under way."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        #: Places that are taken.
        self.taken = 0

    def try_take(self, places: int) -> bool:
        """Takes so many places if they are free and nobody waits; returns whether it did."""
        if self._waiting or not self._fits(places):
            return False
        self.taken += places
        return True

    async def take(self, places: int) -> None:
        """Takes so many places, and waits for them where they are not free."""
        if self.try_take(places):
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((places, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # Both happened at once: what was given is given back.
                self.give(places)
            else:
                self._waiting = deque(one for one in self._waiting if one[1] is not turn)
                self._call()
            raise

    def give(self, places: int) -> None:
        """Gives places back."""
        self.taken -= places
        self._call()

    def _fits(self, places: int) -> bool:
        return self.taken == 0 or self.taken + places <= self._limit

    def _call(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            places, turn = self._waiting.popleft()
            if turn.done():
                continue
            self.taken += places
            turn.set_result(None)
