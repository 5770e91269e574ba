"""Tells a requested cancellation of a task from a CancelledError that a library raises by itself."""

from __future__ import annotations

import asyncio


def cancel_requested() -> bool:
    """Whether somebody has called `cancel` on the running task.

    If not, a CancelledError comes from inside a call and does not end the task. grpc.aio and aiokafka raise one where a
    channel or a client closes.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
