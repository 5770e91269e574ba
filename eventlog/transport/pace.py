"""How often a consumer fetches: at once where nothing came lately, at a steady pace where something always does.

A fetch is answered as soon as there is one record, and one record alone costs nearly as much as a hundred together:
the answer, two threads that wake, a produce request, a commit. So under load records are left to gather at the broker.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

#: Seconds from an answer with records to the next question: the most that a record waits for others.
PACE_S = 0.01


def keep_pace(fetcher: Any, pace_s: float = PACE_S) -> None:
    """Makes an aiokafka fetcher keep the pace, for each broker by itself."""
    fetch = fetcher._proc_fetch_request
    answered: dict[int, float] = {}

    async def paced(assignment: Any, node_id: int, request: Any) -> bool:
        early_s = answered.get(node_id, 0.0) + pace_s - time.monotonic()
        if early_s > 0:
            try:
                await asyncio.sleep(early_s)
            except asyncio.CancelledError:
                # As aiokafka's own fetch: whoever has cancelled it waits for it to return.
                return False
        found = bool(await fetch(assignment, node_id, request))
        if found:
            answered[node_id] = time.monotonic()
        return found

    fetcher._proc_fetch_request = paced
