"""A limit on work in flight where one call may bring many items: first come, first served, with a share an identity.

An identity that fills its share waits or is refused; the others do not.

Used on the event loop's thread only. Every acquire needs a release.
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
from chassis.rpc.caller import current_identity
from chassis.rpc.errors import ApiError


class _Waiter(NamedTuple):
    slots: int
    identity: str
    granted: asyncio.Future[None]


class CapacityLimiter:
    """`limit` slots, at most `share` of them for one identity.

    A request for more slots than the share is granted only while the identity holds none and the limit allows it; a
    request for more than the limit only while no slot is taken.
    """

    def __init__(self, limit: int, share: int | None = None) -> None:
        self._limit = limit
        self._share = limit if share is None else share
        self._waiting: deque[_Waiter] = deque()
        self._by_identity: dict[str, int] = {}
        #: Slots in use.
        self.in_use = 0

    def try_acquire(self, slots: int, identity: str | None = None) -> bool:
        """Takes the slots if they are free and nobody waits for them; returns whether it did.

        `identity` defaults to the caller's. An empty one is subject to the limit alone.
        """
        identity = current_identity() if identity is None else identity
        if any(self._within_share(one.slots, one.identity) for one in self._waiting):
            # That waiter lacks free slots, not its share: nobody overtakes it.
            return False
        if not (self._within_limit(slots) and self._within_share(slots, identity)):
            return False
        self._grant(slots, identity)
        return True

    @contextmanager
    def slot(self, activity: str) -> Iterator[None]:
        """One slot for the block. Raises ApiError OVERLOADED, "too many calls {activity} already", at capacity."""
        identity = current_identity()
        if not self.try_acquire(1, identity):
            raise at_capacity(f"too many calls {activity} already")
        try:
            yield
        finally:
            self.release(1, identity)

    async def acquire(self, slots: int, identity: str | None = None) -> None:
        """Takes the slots; waits until they are free."""
        identity = current_identity() if identity is None else identity
        if self.try_acquire(slots, identity):
            return
        waiter = _Waiter(slots, identity, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                # Granted and cancelled in the same turn of the loop.
                self.release(slots, identity)
            else:
                self._waiting = deque(one for one in self._waiting if one is not waiter)
                self._grant_waiters()
            raise

    def release(self, slots: int, identity: str | None = None) -> None:
        """Frees slots."""
        identity = current_identity() if identity is None else identity
        self.in_use -= slots
        if identity:
            left = self._by_identity[identity] - slots
            if left:
                self._by_identity[identity] = left
            else:
                del self._by_identity[identity]
        self._grant_waiters()

    def _within_limit(self, slots: int) -> bool:
        return not self.in_use or self.in_use + slots <= self._limit

    def _within_share(self, slots: int, identity: str) -> bool:
        own = self._by_identity.get(identity, 0) if identity else 0
        return not own or own + slots <= self._share

    def _grant(self, slots: int, identity: str) -> None:
        self.in_use += slots
        if identity:
            self._by_identity[identity] = self._by_identity.get(identity, 0) + slots

    def _grant_waiters(self) -> None:
        """Grants in order. A waiter that lacks free slots blocks those behind it; one that lacks its share does not."""
        left: deque[_Waiter] = deque()
        while self._waiting:
            waiter = self._waiting.popleft()
            if waiter.granted.done():
                continue
            if self._within_share(waiter.slots, waiter.identity):
                if not self._within_limit(waiter.slots):
                    left.append(waiter)
                    break
                self._grant(waiter.slots, waiter.identity)
                waiter.granted.set_result(None)
            else:
                left.append(waiter)
        left.extend(self._waiting)
        self._waiting = left


def at_capacity(message: str) -> ApiError:
    """The error of a call that finds no free slot."""
    return ApiError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors_pb2.ERROR_REASON_OVERLOADED,
        f"{message}; retry later",
        retry_after_ms=OVERLOADED_RETRY_MS,
    )
