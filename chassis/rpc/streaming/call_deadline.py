"""Waits of a call: for a change of a view, until shortly before the caller's deadline.

A wait ends early enough for the answer to reach the caller within the deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from eventlog.views.change_notifier import ChangeNotifier

T = TypeVar("T")

#: Seconds before the deadline at which a wait ends.
MARGIN_S = 0.05
#: Part of the remaining time that is kept back too. gRPC sends a timeout with two or three digits, rounded up: a server
#: receives 10.1 s for 10.04 s, and its caller gives up before the server expects it. The rest is for the way of the
#: answer on a busy machine, such as when partitions move and all waiting calls are answered at once.
MARGIN_PART = 0.04
#: Seconds that a call without a deadline may take.
UNLIMITED_S = 60.0


class Timed(Protocol):
    """The part of a call's context that has the deadline."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""
        ...


def remaining_s(context: Timed) -> float | None:
    """Seconds that a call may wait and still answer in time; None without a deadline."""
    remaining = context.time_remaining()
    return None if remaining is None else remaining - MARGIN_S - remaining * MARGIN_PART


class CallDeadline:
    """The remaining time of one call's waits."""

    __slots__ = ("_until",)

    def __init__(self, context: Timed) -> None:
        left = remaining_s(context)
        self._until = time.monotonic() + (UNLIMITED_S if left is None else left)

    def left_s(self, at_most_s: float = UNLIMITED_S) -> float:
        """Seconds left, from 0 to `at_most_s`."""
        return min(max(self._until - time.monotonic(), 0.0), at_most_s)


async def wait_until(notifier: ChangeNotifier, key: str, look: Callable[[], T | None], within_s: float) -> T:
    """Calls `look` now and after each change of the key, and returns its first result. Raises TimeoutError."""
    with notifier.subscribe(key) as watch:
        async with asyncio.timeout(within_s):
            while (found := look()) is None:
                await watch.changed()
            return found
