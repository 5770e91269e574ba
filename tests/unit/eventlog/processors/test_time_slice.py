"""Long work on the event loop lets others do theirs, all of it where it is short, and gets on with its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from eventlog.processors.time_slice import IDLE_S, OTHERS_S, SLICE_S, TimeSlice


class Clock:
    """Time passes by work alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def work(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("eventlog.processors.time_slice.time.perf_counter", lambda: made.now)
    return made


@contextlib.asynccontextmanager
async def beside(clock: Clock, turns: int, each_s: float) -> AsyncIterator[list[int]]:
    """Something else that takes so many turns; what is yielded has one item for each that was done."""
    done: list[int] = []

    async def others() -> None:
        for turn in range(turns):
            clock.work(each_s)
            done.append(turn)
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
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
    async with beside(clock, 5, OTHERS_S / 20) as done:
        await TimeSlice().yield_to_loop()
        assert len(done) == 5


async def test_a_task_that_is_always_busy_delays_a_yield_only_for_a_limited_time(clock: Clock) -> None:
    async with beside(clock, 1_000, OTHERS_S / 3.5) as done:
        slices = TimeSlice()
        for breath in (1, 2, 3):
            await slices.yield_to_loop()
            assert len(done) == 4 * breath


async def test_a_yield_takes_one_turn_if_no_other_task_is_busy(clock: Clock) -> None:
    async with beside(clock, 1_000, IDLE_S / 2) as done:
        await TimeSlice().yield_to_loop()
        assert len(done) == 1
