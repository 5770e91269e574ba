"""Calls by what they do now, oldest first, and the seconds that each may take for it.

A peer decides how long its request takes to arrive and how long it leaves our answer unread. Such a call costs a task
and its buffers, so each phase is limited in time and in number. Where a phase is full, the call that has been in it for
longest is ended for the next one: a call of a well-behaved peer passes a phase in milliseconds, and is not the oldest.

To be used on the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

#: The task of a call.
Task = asyncio.Task[Any]


class Phase:
    """Calls in one phase."""

    __slots__ = ("_clock", "_end", "_most", "_seconds", "_since", "ended")

    def __init__(
        self, most: int, seconds: float, end: Callable[[Task, Any], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`most` calls at a time, each for so many `seconds`; `end` ends one, which has left the phase before, and is
        given what it entered with."""
        self._most = most
        self._seconds = seconds
        self._end = end
        self._clock = clock
        #: Kept in the order in which calls came.
        self._since: dict[Task, tuple[float, Any]] = {}
        #: Calls that were ended so far.
        self.ended = 0

    def __len__(self) -> int:
        return len(self._since)

    def enter(self, task: Task, about: Any = None) -> None:
        """A call begins the phase."""
        if len(self._since) >= self._most:
            self._expel(next(iter(self._since)))
        self._since[task] = self._clock(), about

    def leave(self, task: Task) -> None:
        """A call has ended the phase, or has ended altogether."""
        self._since.pop(task, None)

    def sweep(self) -> int:
        """Ends the calls that have been in the phase for too long, and returns how many."""
        until = self._clock() - self._seconds
        overdue = []
        for task, (since, _) in self._since.items():
            if since > until:
                break
            overdue.append(task)
        for task in overdue:
            self._expel(task)
        return len(overdue)

    def _expel(self, task: Task) -> None:
        _, about = self._since.pop(task)
        self.ended += 1
        self._end(task, about)
