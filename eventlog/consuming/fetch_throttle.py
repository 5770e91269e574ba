"""Delays fetches under load: a consumer that receives records all the time fetches at a fixed pace.

A broker answers a fetch as soon as it has one record. A fetch of one record costs nearly as much as one of a hundred:
the response, two threads that wake up, a produce request, a commit. So under load records gather at the broker, and
for longer if more of them come: a record waits a few milliseconds more for its fetch, and less for a busy CPU core.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

#: One fetch request to a broker: (assignment, node id, request) -> whether the response held records.
FetchRequest = Callable[[Any, int, Any], Awaitable[bool]]

#: Shortest time in seconds from a response with records to the next request: the longest that a record waits.
PACE_S = 0.01
#: The same for a busy consumer.
BUSY_PACE_S = 0.03
#: Records per second from which on a consumer is busy.
BUSY_PER_S = 300.0
#: Time constant, in seconds, of the average number of records per second.
WINDOW_S = 0.25


class FetchThrottle:
    """The pace of one consumer's fetches, for each broker separately."""

    def __init__(self, pace_s: float = PACE_S, busy_s: float = BUSY_PACE_S) -> None:
        self._pace_s = pace_s
        self._busy_s = busy_s
        self._records = 0
        self._per_s = 0.0
        self._counted = time.monotonic()
        self._answered: dict[int, float] = {}

    def count(self, records: int) -> None:
        """Counts received records."""
        self._records += records

    @property
    def is_busy(self) -> bool:
        """Whether the consumer has received BUSY_PER_S records or more lately."""
        now = time.monotonic()
        if (passed_s := now - self._counted) >= self._pace_s:
            records, self._records = self._records, 0
            self._counted = now
            self._per_s += (records / passed_s - self._per_s) * (1 - math.exp(-passed_s / WINDOW_S))
        return self._per_s >= BUSY_PER_S

    def throttle(self, fetch: FetchRequest) -> FetchRequest:
        """Delays a fetch request that follows too soon on a response with records."""

        async def throttled(assignment: Any, node_id: int, request: Any) -> bool:
            pause_s = self._busy_s if self.is_busy else self._pace_s
            early_s = self._answered.get(node_id, 0.0) + pause_s - time.monotonic()
            if early_s > 0:
                try:
                    await asyncio.sleep(early_s)
                except asyncio.CancelledError:
                    # As aiokafka's own request does: the task that cancelled it waits for it to return.
                    return False
            found = bool(await fetch(assignment, node_id, request))
            if found:
                self._answered[node_id] = time.monotonic()
            return found

        return throttled
