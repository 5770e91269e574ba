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


async def test_a_slice_is_over_after_its_time(clock: Clock) -> None:
    slices = TimeSlice()
    assert not slices.expired()
    clock.work(SLICE_S)
    assert slices.expired()
    await slices.yield_to_loop()
    assert not slices.expired()


async def test_what_others_do_in_many_turns_is_done_in_one_breath(clock: Clock) -> None:
    async with beside(clock, 5, OTHERS_S / 20) as done:
        await TimeSlice().yield_to_loop()
        assert len(done) == 5


async def test_who_never_ends_does_not_hold_it_up_for_long(clock: Clock) -> None:
    async with beside(clock, 1_000, OTHERS_S / 3.5) as done:
        slices = TimeSlice()
        for breath in (1, 2, 3):
            await slices.yield_to_loop()
            assert len(done) == 4 * breath


async def test_where_nobody_does_anything_it_goes_on_after_one_turn(clock: Clock) -> None:
    async with beside(clock, 1_000, IDLE_S / 2) as done:
        await TimeSlice().yield_to_loop()
        assert len(done) == 1
