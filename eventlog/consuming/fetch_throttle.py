"""How often a consumer fetches: at once where nothing came lately, at a steady pace where something always does.

A fetch is answered as soon as there is one record, and one record alone costs nearly as much as a hundred together:
the answer, two threads that wake, a produce request, a commit. So under load records are left to gather at the broker,
and the longer, the more come: what a fetch waits for others it saves in waiting for a busy core.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

#: Seconds from an answer with records to the next question: the most that a record waits for others.
PACE_S = 0.01
#: As above, of a consumer that is busy.
BUSY_PACE_S = 0.03
#: Records a second that make a consumer busy.
BUSY_PER_S = 300.0
#: Seconds over which records are counted.
WINDOW_S = 0.25


class FetchThrottle:
    """The pace of one consumer, whose fetcher is aiokafka's; it is kept for each broker by itself."""

    def __init__(self, pace_s: float = PACE_S, busy_s: float = BUSY_PACE_S) -> None:
        self._pace_s = pace_s
        self._busy_s = busy_s
        self._records = 0
        self._per_s = 0.0
        self._counted = time.monotonic()
        self._answered: dict[int, float] = {}

    def saw(self, records: int) -> None:
        """Counts records that have come."""
        self._records += records

    @property
    def busy(self) -> bool:
        """Whether many records came lately."""
        now = time.monotonic()
        if (passed_s := now - self._counted) >= self._pace_s:
            records, self._records = self._records, 0
            self._counted = now
            self._per_s += (records / passed_s - self._per_s) * (1 - math.exp(-passed_s / WINDOW_S))
        return self._per_s >= BUSY_PER_S

    def keep(self, fetcher: Any) -> None:
        """Makes a fetcher keep it."""
        fetch = fetcher._proc_fetch_request

        async def paced(assignment: Any, node_id: int, request: Any) -> bool:
            pause_s = self._busy_s if self.busy else self._pace_s
            early_s = self._answered.get(node_id, 0.0) + pause_s - time.monotonic()
            if early_s > 0:
                try:
                    await asyncio.sleep(early_s)
                except asyncio.CancelledError:
                    # As aiokafka's own fetch: whoever has cancelled it waits for it to return.
                    return False
            found = bool(await fetch(assignment, node_id, request))
            if found:
                self._answered[node_id] = time.monotonic()
            return found

        fetcher._proc_fetch_request = paced
