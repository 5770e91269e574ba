"""Coroutines that run side by side until the first of them ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def run_until_first_ends(*work: Awaitable[object]) -> None:
    """Runs all, cancels the others when one ends, and waits for their end. Raises the error of one that ended so."""
    running = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
