"""Waiting for a condition with a deadline, instead of for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def moment(seconds: float = 0.05) -> None:
    """Lets others run for a while, between two looks at a condition."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        return


async def wait_for_async(check: Callable[[], Awaitable[bool]], *, seconds: float, every: float = 0.2) -> None:
    """Returns once `check` says yes. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await check():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {seconds:g} s")
        await moment(every)
