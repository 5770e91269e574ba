"""Room for a bounded number of things under way, where one call may bring many. First come, first served, with a share
for each identity at most: one that fills its share waits, or is refused, and the others do not.

Must only be used on the event loop's thread, and everything taken must be given back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.admission.calls_in_flight import OVERLOADED_RETRY_MS
from chassis.rpc.caller import identity
from chassis.rpc.errors import ApiError


class _Turn(NamedTuple):
    places: int
    who: str
    given: asyncio.Future[None]


class CapacityLimiter:
    """Places for `limit` things, `share` of them for one identity. More may come in one piece only where the identity
    has nothing else under way, and the limit allows it; more than the limit only where nothing is under way at all."""

    def __init__(self, limit: int, share: int | None = None) -> None:
        self._limit = limit
        self._share = limit if share is None else share
        self._waiting: deque[_Turn] = deque()
        self._taken_by: dict[str, int] = {}
        #: Places that are taken.
        self.taken = 0

    def try_take(self, places: int, who: str | None = None) -> bool:
        """Takes so many places if they are free and nobody waits for them; returns whether it did. `who` is the
        caller's identity if it is not given; an empty one has no share."""
        who = identity() if who is None else who
        if any(self._shares(one.places, one.who) for one in self._waiting):
            # Waits for the room, and not for its own share: nobody overtakes.
            return False
        if not (self._has(places) and self._shares(places, who)):
            return False
        self._take(places, who)
        return True

    @contextmanager
    def place(self, what: str) -> Iterator[None]:
        """One place for as long as the block lasts. Raises ApiError OVERLOADED where there is none."""
        who = identity()
        if not self.try_take(1, who):
            raise no_room(f"too many calls {what} already")
        try:
            yield
        finally:
            self.give(1, who)

    async def take(self, places: int, who: str | None = None) -> None:
        """Takes so many places, and waits for them where they are not free."""
        who = identity() if who is None else who
        if self.try_take(places, who):
            return
        turn = _Turn(places, who, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        try:
            await turn.given
        except asyncio.CancelledError:
            if turn.given.done() and not turn.given.cancelled():
                # Both happened at once: what was given is given back.
                self.give(places, who)
            else:
                self._waiting = deque(one for one in self._waiting if one is not turn)
                self._call()
            raise

    def give(self, places: int, who: str | None = None) -> None:
        """Gives places back."""
        who = identity() if who is None else who
        self.taken -= places
        if who:
            left = self._taken_by[who] - places
            if left:
                self._taken_by[who] = left
            else:
                del self._taken_by[who]
        self._call()

    def _has(self, places: int) -> bool:
        return not self.taken or self.taken + places <= self._limit

    def _shares(self, places: int, who: str) -> bool:
        own = self._taken_by.get(who, 0) if who else 0
        return not own or own + places <= self._share

    def _take(self, places: int, who: str) -> None:
        self.taken += places
        if who:
            self._taken_by[who] = self._taken_by.get(who, 0) + places

    def _call(self) -> None:
        """Gives those who wait their turn. One that waits for the room keeps those behind it waiting; one that waits
        for its share does not."""
        left: deque[_Turn] = deque()
        while self._waiting:
            turn = self._waiting.popleft()
            if turn.given.done():
                continue
            if self._shares(turn.places, turn.who):
                if not self._has(turn.places):
                    left.append(turn)
                    break
                self._take(turn.places, turn.who)
                turn.given.set_result(None)
            else:
                left.append(turn)
        left.extend(self._waiting)
        self._waiting = left


def no_room(why: str) -> ApiError:
    """The refusal of a call for which there is no place."""
    return ApiError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors_pb2.ERROR_REASON_OVERLOADED,
        f"{why}; call again later",
        retry_after_ms=OVERLOADED_RETRY_MS,
    )
