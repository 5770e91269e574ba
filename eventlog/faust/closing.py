"""A consumer's thread ends soon after it was told to, whatever its consumer is in the middle of.

aiokafka closes by cancelling tasks and waiting for them. One that was cancelled before its first step, or while it
waits to try again, ends the close by its own cancellation; one that waits for other members of the group lasts as long
as they do. Of the former Faust's thread would die unheard, and the stop would wait for it for a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)

#: Seconds that a close may take. All that matters is committed by then.
CLOSE_S = 2.0


async def close_in_time(close: Coroutine[Any, Any, None], seconds: float = CLOSE_S) -> None:
    """Closes; what can't be closed properly within so many seconds is left as it is. Never raises."""
    closing = asyncio.get_running_loop().create_task(close)
    await asyncio.wait([closing], timeout=seconds)
    if not closing.done():
        closing.cancel()
        log.info("the consumer is left as it is: not closed within %g s", seconds)
    elif closing.cancelled():
        log.info("the consumer is left as it is: a task of its own was cancelled")
    elif error := closing.exception():
        log.info("the consumer is left as it is: %r", error)
