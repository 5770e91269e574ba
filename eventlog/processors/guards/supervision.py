"""Supervision of one processor: failures that Faust would swallow end the process with code 70.

Each `watch_` function runs until it is cancelled, as a background task of the processor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError

from eventlog.faust.access import until_crashed
from eventlog.runtime.abort import abort
from eventlog.runtime.cancellation import cancel_requested

if TYPE_CHECKING:
    from eventlog.processors.base import Processor

log = logging.getLogger(__name__)

#: Seconds without progress after which a recovery ends the process: three of the broker's request time-outs.
STALLED_S = 90.0
#: Seconds between two checks of a recovery's progress.
POLL_INTERVAL_S = 1.0
#: Seconds between two checks of the committed offsets.
COMMITS_INTERVAL_S = 30.0


@contextmanager
def fatal(processor: Processor, cancelled: str, failed: str) -> Iterator[None]:
    """Ends the process at any error inside the block, with one of two messages.

    `cancelled` is for a CancelledError that a callee raised, while the running task was not cancelled.
    """
    try:
        yield
    except GeneratorExit:
        raise
    except asyncio.CancelledError as error:
        if cancel_requested():
            raise
        abort(cancelled, error, processor=processor.group)
    except BaseException as error:  # noqa: BLE001 - the process ends here
        abort(failed, error, processor=processor.group)


async def supervise(processor: Processor, work: Awaitable[Any], name: str) -> None:
    """Runs a background task. If it ends before the processor stops, with an error or without, the process ends."""
    error: BaseException | None = None
    try:
        await work
    except asyncio.CancelledError as cancelled:
        if cancel_requested():
            raise
        error = cancelled
    except BaseException as raised:  # noqa: BLE001 - the process ends here
        error = raised
    if not processor.stopping:
        abort("a task ended", error, task=name)


async def watch_app(processor: Processor) -> None:
    """Ends the process when the Faust app crashes."""
    await until_crashed(processor.app)
    if not processor.stopping:
        abort("the stream processor crashed", processor.app.crash_reason, processor=processor.group)


async def watch_recovery(processor: Processor) -> None:
    """Ends the process when a recovery makes no progress for STALLED_S: Faust's recovery can end without an error."""
    seen: object = None
    idle_s = 0.0
    while True:
        before = time.monotonic()
        await asyncio.sleep(POLL_INTERVAL_S)
        consumer = processor.app.consumer
        progress = (consumer.epoch, consumer.fetched, processor.progress)
        if consumer.resumed or not consumer.assigned or progress != seen:
            seen, idle_s = progress, 0.0
            continue
        # Time in which the process was suspended does not count: the recovery could not run either.
        idle_s += min(time.monotonic() - before, 2 * POLL_INTERVAL_S)
        if idle_s >= STALLED_S:
            abort("assigned, but not recovered", processor=processor.group, seconds=STALLED_S, epoch=consumer.epoch)


async def watch_commits(processor: Processor) -> None:
    """Detects offsets that another client committed for the group: the next start would begin there."""
    while True:
        await asyncio.sleep(COMMITS_INTERVAL_S)
        if not processor.resumed:
            continue
        try:
            await processor.app.consumer.check_commits()
        except (KafkaError, OSError) as error:
            # OSError includes TimeoutError.
            log.warning("%s: can't read the committed offsets, retrying: %r", processor.group, error)
