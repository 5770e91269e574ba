"""Long work yields to the event loop, for as long as other tasks are busy but not longer than the limit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from eventlog.runtime.time_slice import IDLE_S, OTHERS_S, SLICE_S, TimeSlice


class Clock:
    """A clock that only work advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def work(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("eventlog.runtime.time_slice.time.perf_counter", lambda: made.now)
    return made


@contextlib.asynccontextmanager
async def busy_task(clock: Clock, turns: int, each_s: float) -> AsyncIterator[list[int]]:
    """Another task that takes so many turns. Yields the list of the turns that it has done."""
    done: list[int] = []

    async def work() -> None:
        for turn in range(turns):
            clock.work(each_s)
            done.append(turn)
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    yield done
    task.cancel()


async def test_a_slice_expires_after_its_time(clock: Clock) -> None:
    slices = TimeSlice()
    assert not slices.expired()
    clock.work(SLICE_S)
    assert slices.expired()
    await slices.yield_to_loop()
    assert not slices.expired()


async def test_one_yield_gives_as_many_turns_as_other_tasks_use(clock: Clock) -> None:
    async with busy_task(clock, 5, OTHERS_S / 20) as done:
        await TimeSlice().yield_to_loop()
        assert len(done) == 5


async def test_a_task_that_is_always_busy_delays_a_yield_only_for_a_limited_time(clock: Clock) -> None:
    async with busy_task(clock, 1_000, OTHERS_S / 3.5) as done:
        slices = TimeSlice()
        for yields in (1, 2, 3):
            await slices.yield_to_loop()
            assert len(done) == 4 * yields


async def test_a_yield_takes_one_turn_if_no_other_task_is_busy(clock: Clock) -> None:
    async with busy_task(clock, 1_000, IDLE_S / 2) as done:
        await TimeSlice().yield_to_loop()
        assert len(done) == 1
