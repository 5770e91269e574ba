"""Polls a condition until a deadline or a cancellation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from devstack.errors import Cancelled


def wait_for(
    condition: Callable[[], bool],
    *,
    timeout_s: float,
    cancel: threading.Event | None = None,
    every_s: float = 0.05,
) -> bool:
    """Polls until the condition holds. Returns False if it does not hold within `timeout_s` seconds.

    Raises Cancelled once `cancel` is set; errors of the condition pass through.
    """
    pause = cancel or threading.Event()
    deadline = time.monotonic() + timeout_s
    while not condition():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        if pause.wait(min(every_s, left_s)):
            raise Cancelled("cancelled before everything had started")
    return True
