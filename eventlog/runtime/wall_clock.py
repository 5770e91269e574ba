"""The system's clock. Its time goes to headers and other fields for people; no decision depends on it."""

from __future__ import annotations

import time


def wall_clock_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
