"""How a call waits for something to be seen in a view: woken by its changes, and never past the caller's deadline.

Must stop early enough that the answer still reaches the caller before the deadline does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from eventlog.views.change_notifier import ChangeNotifier

T = TypeVar("T")

#: Seconds before the deadline at which waiting ends at the latest, so that what is true can still be told.
MARGIN_S = 0.05
#: Part of the time left in which nothing is waited for either. A timeout travels with two or three digits, rounded up:
#: of 10.04 s a server hears 10.1 s, and its caller has left before it thinks so. The rest is for the way of an answer
#: where the machine has too much to do, as when partitions move and all who waited for them are answered at once.
MARGIN_PART = 0.04
#: Seconds that a call without a deadline may take.
UNLIMITED_S = 60.0


class Timed(Protocol):
    """What is needed of a call's context."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None: there is none."""
        ...


def left_s(context: Timed) -> float | None:
    """Seconds for which a call may wait for something and still tell its caller in time; None: there is no deadline."""
    remaining = context.time_remaining()
    return None if remaining is None else remaining - MARGIN_S - remaining * MARGIN_PART


class CallDeadline:
    """How long one call may still wait."""

    __slots__ = ("_until",)

    def __init__(self, context: Timed) -> None:
        left = left_s(context)
        self._until = time.monotonic() + (UNLIMITED_S if left is None else left)

    def left_s(self, at_most_s: float = UNLIMITED_S) -> float:
        """Seconds left, never below 0 nor above `at_most_s`."""
        return min(max(self._until - time.monotonic(), 0.0), at_most_s)


async def until(watchers: ChangeNotifier, key: str, look: Callable[[], T | None], within_s: float) -> T:
    """Looks now and after each change of the key, and returns the first thing found. Raises TimeoutError."""
    with watchers.watch(key) as watch:
        async with asyncio.timeout(within_s):
            while (found := look()) is None:
                await watch.changed()
            return found
