"""A close that is cancelled from inside, fails or hangs ends all the same, so that the thread reports its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from eventlog.faust.closing import close_in_time


async def cancelled() -> None:
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


async def failed() -> None:
    raise ConnectionError("planted")


async def waiting() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("close", "why"),
    [(cancelled, "a task of its own was cancelled"), (failed, "planted"), (waiting, "not closed within 0.05 s")],
)
async def test_a_failed_close_ends_and_is_logged(
    close: Callable[[], Coroutine[Any, Any, None]], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "eventlog.faust.closing"):
        await asyncio.wait_for(close_in_time(close(), 0.05), 20)
    assert why in caplog.text


async def test_a_close_is_awaited(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[bool] = []

    async def closing() -> None:
        await asyncio.sleep(0)
        closed.append(True)

    with caplog.at_level(logging.INFO, "eventlog.faust.closing"):
        await close_in_time(closing())
    assert closed
    assert not caplog.text
