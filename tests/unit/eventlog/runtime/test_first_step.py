"""A coroutine runs to its first wait in the caller's task; its rest behaves as the coroutine would."""

from __future__ import annotations

import asyncio

import pytest

from eventlog.runtime.first_step import first_step


async def test_a_coroutine_that_does_not_wait_has_ended_at_once() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    assert first_step(work()) is None
    assert done == [1]


async def test_an_error_of_the_first_step_is_raised() -> None:
    async def work() -> None:
        raise LookupError("first")

    with pytest.raises(LookupError, match="first"):
        first_step(work())


@pytest.mark.parametrize("in_a_task", [False, True])
async def test_the_rest_waits_and_ends(in_a_task: bool) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    queue.put_nowait(1)

    async def work() -> None:
        await queue.put(2)
        await asyncio.sleep(0)
        await queue.put(3)

    rest = first_step(work())
    assert rest is not None

    async def take() -> list[int]:
        return [await queue.get() for _ in range(3)]

    taking = asyncio.create_task(take())
    async with asyncio.timeout(10):
        await (asyncio.ensure_future(rest) if in_a_task else rest)
        assert await taking == [1, 2, 3]


async def test_an_error_of_a_later_step_is_raised() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise LookupError("second")

    rest = first_step(work())
    assert rest is not None
    with pytest.raises(LookupError, match="second"):
        await rest


async def test_a_cancelled_rest_cancels_the_coroutine_where_it_waits() -> None:
    seen: list[str] = []
    never = asyncio.Event()

    async def work() -> None:
        try:
            await never.wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            seen.append("cleaned up")

    rest = first_step(work())
    assert rest is not None
    task = asyncio.ensure_future(rest)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled", "cleaned up"]


async def test_a_coroutine_may_survive_a_cancellation() -> None:
    release, never = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await never.wait()
        except asyncio.CancelledError:
            await release.wait()

    rest = first_step(work())
    assert rest is not None
    task = asyncio.ensure_future(rest)
    await asyncio.sleep(0)
    task.cancel()
    release.set()
    async with asyncio.timeout(10):
        await task
