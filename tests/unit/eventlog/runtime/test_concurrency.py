"""Coroutines run until the first ends; the others are cancelled and have ended afterwards."""

from __future__ import annotations

import asyncio

import pytest

from eventlog.runtime.concurrency import run_until_first_ends


async def forever(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        ended.append(name)


async def test_the_others_have_ended_when_one_returns() -> None:
    ended: list[str] = []

    async def short() -> None:
        await asyncio.sleep(0)

    await run_until_first_ends(forever(ended, "a"), short(), forever(ended, "b"))
    assert sorted(ended) == ["a", "b"]


async def test_an_error_is_raised_after_the_others_have_ended() -> None:
    ended: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError

    with pytest.raises(LookupError):
        await run_until_first_ends(forever(ended, "a"), fails())
    assert ended == ["a"]


async def test_a_cancelled_run_cancels_all() -> None:
    ended: list[str] = []
    run = asyncio.ensure_future(run_until_first_ends(forever(ended, "a"), forever(ended, "b")))
    for _ in range(3):  # until both have begun
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert sorted(ended) == ["a", "b"]
