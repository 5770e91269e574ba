"""Waiting for a condition, with a deadline and a way out. Must never wait for ever, nor outlive a request to stop."""

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
    """Asks again and again until the condition holds. Returns False when it did not within `timeout_s` seconds.

    Raises Cancelled once `cancel` is set, and whatever the condition raises.
    """
    pause = cancel or threading.Event()
    deadline = time.monotonic() + timeout_s
    while not condition():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        if pause.wait(min(every_s, left_s)):
            raise Cancelled("stopped before everything had started")
    return True
