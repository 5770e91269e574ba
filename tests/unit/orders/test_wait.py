"""A call that waits for an order is woken only when its own condition holds."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from eventlog.core.errors import NotReady
from eventlog.views.change_notifier import ChangeNotifier
from services.orders.api.wait import CHECKS_BATCH, ViewWaiter
from tests.unit.chassis.support import eventually

LONG_S = 30.0


class Seats:
    """Decisions by order. Counts the reads."""

    def __init__(self) -> None:
        self.decided: dict[int, str] = {}
        self.reads = 0

    def of(self, order: int) -> str | None:
        self.reads += 1
        return self.decided.get(order)


async def waiting(waiter: ViewWaiter, calls: int) -> None:
    await eventually(lambda: len(waiter) == calls)


async def test_a_condition_that_holds_returns_at_once() -> None:
    assert await ViewWaiter(ChangeNotifier()).until("g", lambda: "seat", LONG_S) == "seat"


async def test_each_call_returns_its_own_value_and_the_others_keep_waiting() -> None:
    notifier, seats = ChangeNotifier(), Seats()
    waiter, count = ViewWaiter(notifier), CHECKS_BATCH + 10
    async with asyncio.TaskGroup() as tasks:
        waits = [tasks.create_task(waiter.until("g", partial(seats.of, order), LONG_S)) for order in range(count)]
        await waiting(waiter, count)
        seats.decided = dict.fromkeys(range(0, count, 2), "reserved")
        notifier.notify("g")
        assert [await wait for wait in waits[::2]] == ["reserved"] * len(waits[::2])
        assert not any(wait.done() for wait in waits[1::2])
        seats.decided |= dict.fromkeys(range(1, count, 2), "refused")
        notifier.notify("g")
    assert [wait.result() for wait in waits[1::2]] == ["refused"] * len(waits[1::2])


async def test_a_change_evaluates_each_condition_once() -> None:
    notifier, seats = ChangeNotifier(), Seats()
    waiter = ViewWaiter(notifier)
    async with asyncio.TaskGroup() as tasks:
        wait = tasks.create_task(waiter.until("g", lambda: seats.of(1), LONG_S))
        await waiting(waiter, 1)
        for _ in range(50):
            notifier.notify("g")
        seats.decided[1] = "reserved"
        await wait
    # One before the wait, and one for fifty changes in one turn of the loop.
    assert seats.reads == 2


async def test_changes_of_another_key_wake_no_call() -> None:
    notifier, seats = ChangeNotifier(), Seats()
    waiter = ViewWaiter(notifier)
    wait = asyncio.create_task(waiter.until("g", lambda: seats.of(1), LONG_S))
    await waiting(waiter, 1)
    notifier.notify("h")
    await asyncio.sleep(0.01)
    assert seats.reads == 1
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait


async def test_a_timed_out_call_leaves_no_state() -> None:
    notifier = ChangeNotifier()
    waiter = ViewWaiter(notifier)
    with pytest.raises(TimeoutError):
        await waiter.until("g", lambda: None, 0.01)
    assert len(waiter) == 0
    assert len(notifier) == 0


async def test_an_error_of_a_condition_is_raised_in_its_call_only() -> None:
    notifier, seats = ChangeNotifier(), Seats()
    waiter = ViewWaiter(notifier)
    lost = False

    def check() -> str | None:
        if lost:
            raise NotReady("the partition has moved")
        return None

    async with asyncio.TaskGroup() as tasks:
        failing = tasks.create_task(_error_of(waiter, check))
        well = tasks.create_task(waiter.until("g", lambda: seats.of(1), LONG_S))
        await waiting(waiter, 2)
        lost, seats.decided[1] = True, "reserved"
        notifier.notify("g")
    assert isinstance(failing.result(), NotReady)
    assert well.result() == "reserved"


async def _error_of(waiter: ViewWaiter, check: object) -> Exception | None:
    try:
        await waiter.until("g", check, LONG_S)  # type: ignore[arg-type]
    except NotReady as error:
        return error
    return None
