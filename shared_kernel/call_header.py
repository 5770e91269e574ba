"""The record header that describes a provider's call: when it began, how long it took, and its number of requests.

Only the process that made the call knows these figures. They are for traces; no decider reads them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

HEADER = "groupbuy-call"

_PATTERN = re.compile(r"start=(\d{1,15}) ms=(\d{1,10}) requests=(\d{1,5})")


class CallTiming(NamedTuple):
    """A call's start in milliseconds since the epoch, its milliseconds, and its requests, with retries and look-ups."""

    start_ms: int
    duration_ms: int
    requests: int

    def __str__(self) -> str:
        return f"start={self.start_ms} ms={self.duration_ms} requests={self.requests}"


def parse(text: str) -> CallTiming | None:
    """The timing in a header's value; None if it is invalid."""
    match = _PATTERN.fullmatch(text)
    return None if match is None else CallTiming(*map(int, match.groups()))
