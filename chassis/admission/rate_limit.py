"""How often a caller may call, and how often a line may be logged: token buckets.

A bucket holds `burst` tokens at most and gets so many a second; a call takes one. A call that is refused takes nothing.
To be used on the event loop's thread only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """Calls a second that a caller may make of one process for long, and at once after a pause."""

    calls_per_second: float
    burst: int


class Sparingly:
    """Lets through so many log lines a second about what anybody can cause, and counts the others."""

    __slots__ = ("_bucket", "_left_out")

    def __init__(self, limit: Limit, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._bucket = Bucket(limit, clock)
        self._left_out = 0

    def let(self) -> dict[str, int] | None:
        """Fields for the line: how many were left out before it. None: leave this one out too."""
        if self._bucket.take():
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        return {"left_out": left_out} if left_out else {}


class Bucket:
    """The tokens of one caller."""

    __slots__ = ("_at", "_clock", "_limit", "_tokens")

    def __init__(self, limit: Limit, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._limit = limit
        self._clock = clock
        self._at = clock()
        self._tokens = float(limit.burst)

    def take(self) -> float:
        """Takes a token and returns 0; or takes none and returns the seconds after which there is one again."""
        self._fill()
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._limit.calls_per_second

    def owe(self, tokens: float = 1) -> float:
        """Takes tokens even if they are yet to come, and returns the seconds to wait for them: for what can be slowed
        or refused the next time."""
        self._fill()
        self._tokens -= tokens
        return max(-self._tokens / self._limit.calls_per_second, 0.0)

    def debt_s(self) -> float:
        """Seconds until all tokens that were taken have come; 0: they have."""
        self._fill()
        return max(-self._tokens / self._limit.calls_per_second, 0.0)

    def _fill(self) -> None:
        now = self._clock()
        gained = max(now - self._at, 0.0) * self._limit.calls_per_second
        self._tokens = min(self._tokens + gained, float(self._limit.burst))
        self._at = now
