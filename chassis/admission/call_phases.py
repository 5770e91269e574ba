"""Limits on the time and the number of calls in one phase, such as reading the request.

The peer decides how long its request takes to arrive and how long it leaves the response unread. Such a call occupies
a task and buffers, so each phase limits both seconds and calls. A full phase evicts the call that has been in it for
longest: a well-behaved call passes a phase in milliseconds and is not the oldest.

Used on the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

#: The task of a call.
Task = asyncio.Task[Any]


class CallPhase:
    """The calls in one phase."""

    __slots__ = ("_clock", "_end", "_limit", "_seconds", "_since", "ended")

    def __init__(
        self, limit: int, seconds: float, end: Callable[[Task, Any], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Allows `limit` calls at a time, each for `seconds`. `end(task, context)` ends a call that was evicted."""
        self._limit = limit
        self._seconds = seconds
        self._end = end
        self._clock = clock
        #: In order of arrival.
        self._since: dict[Task, tuple[float, Any]] = {}
        #: Calls evicted so far.
        self.ended = 0

    def __len__(self) -> int:
        return len(self._since)

    def enter(self, task: Task, context: Any = None) -> None:
        """Adds a call. Evicts the oldest if the phase is full."""
        if len(self._since) >= self._limit:
            self._evict(next(iter(self._since)))
        self._since[task] = self._clock(), context

    def leave(self, task: Task) -> None:
        """Removes a call, if it is in the phase."""
        self._since.pop(task, None)

    def sweep(self) -> int:
        """Evicts the calls that exceeded the phase's seconds and returns their number."""
        until = self._clock() - self._seconds
        overdue = []
        for task, (since, _) in self._since.items():
            if since > until:
                break
            overdue.append(task)
        for task in overdue:
            self._evict(task)
        return len(overdue)

    def _evict(self, task: Task) -> None:
        _, context = self._since.pop(task)
        self.ended += 1
        self._end(task, context)
