"""Closes aiokafka's consumer within a time limit, whatever it is doing.

aiokafka closes by cancelling tasks and awaiting them. A task that is cancelled before its first step, or during a retry
delay, ends the close by its own CancelledError; one that waits for other members of the group takes as long as they do.
In the first case Faust's consumer thread would die silently, and the stop would wait for it for a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)

#: Seconds that a close may take. All offsets are committed by then.
CLOSE_S = 2.0


async def close_in_time(close: Coroutine[Any, Any, None], seconds: float = CLOSE_S) -> None:
    """Awaits a close for at most `seconds`, then abandons it. Does not raise."""
    closing = asyncio.get_running_loop().create_task(close)
    await asyncio.wait([closing], timeout=seconds)
    if not closing.done():
        closing.cancel()
        log.info("the consumer is abandoned: not closed within %g s", seconds)
    elif closing.cancelled():
        log.info("the consumer is abandoned: a task of its own was cancelled")
    elif error := closing.exception():
        log.info("the consumer is abandoned: %r", error)
