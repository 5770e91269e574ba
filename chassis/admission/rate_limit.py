"""Token buckets, for the rate of calls and of log lines.

A bucket holds at most `burst` tokens and gains `calls_per_second`. A call takes one token; a refused call takes none.

Used on the event loop's thread only.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A sustained rate in one process, and the burst that is allowed after a pause."""

    calls_per_second: float
    burst: int


class LogThrottle:
    """Limits the log lines about events that any peer can cause, and counts the lines left out."""

    __slots__ = ("_bucket", "_left_out")

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._bucket = TokenBucket(limit, clock)
        self._left_out = 0

    def allow(self) -> dict[str, int] | None:
        """Returns the fields to add to the line, the number of lines left out before it; None to leave it out too."""
        if self._bucket.take():
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        return {"left_out": left_out} if left_out else {}


class TokenBucket:
    """The tokens of one caller."""

    __slots__ = ("_at", "_clock", "_limit", "_tokens")

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._limit = limit
        self._clock = clock
        self._at = clock()
        self._tokens = float(limit.burst)

    def take(self) -> float:
        """Takes a token and returns 0, or takes none and returns the seconds until one is available."""
        self._fill()
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._limit.calls_per_second

    def overdraw(self, tokens: float = 1) -> float:
        """Takes tokens even if that leaves a debt, and returns the seconds until the debt is paid off.

        For callers that are slowed down, or refused the next time.
        """
        self._fill()
        self._tokens -= tokens
        return max(-self._tokens / self._limit.calls_per_second, 0.0)

    def available(self) -> int:
        """Whole tokens that are available now; 0 in debt."""
        self._fill()
        return max(int(self._tokens), 0)

    def debt_s(self) -> float:
        """Seconds until the debt is paid off; 0 without a debt."""
        self._fill()
        return max(-self._tokens / self._limit.calls_per_second, 0.0)

    def _fill(self) -> None:
        now = self._clock()
        gained = max(now - self._at, 0.0) * self._limit.calls_per_second
        self._tokens = min(self._tokens + gained, float(self._limit.burst))
        self._at = now


class BucketsByKey:
    """A token bucket for each key, for keys that anybody can choose, such as addresses."""

    __slots__ = ("_buckets", "_most")

    def __init__(self, most: int) -> None:
        """Beyond `most` keys, the one that was used longest ago is dropped."""
        self._most = most
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, key: str, limit: RateLimit) -> float:
        """Takes a token of the key's bucket, which `limit` is for if it is new: see TokenBucket.take."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(limit)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take()
