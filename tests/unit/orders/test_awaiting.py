"""Calls that wait for orders of one group are woken when their own wait is over, and only then."""

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
    """What is known of each order; counts how often somebody looked."""

    def __init__(self) -> None:
        self.decided: dict[int, str] = {}
        self.looks = 0

    def of(self, order: int) -> str | None:
        self.looks += 1
        return self.decided.get(order)


async def begun(awaiting: ViewWaiter, waiters: int) -> None:
    await eventually(lambda: len(awaiting) == waiters)


async def test_what_is_there_already_is_found_without_a_change() -> None:
    assert await ViewWaiter(ChangeNotifier()).until("g", lambda: "seat", LONG_S) == "seat"


async def test_each_of_many_is_answered_with_its_own_and_the_rest_wait_on() -> None:
    notifier, seats = ChangeNotifier(), Seats()
    awaiting, count = ViewWaiter(notifier), CHECKS_BATCH + 10
    async with asyncio.TaskGroup() as tasks:
        waits = [tasks.create_task(awaiting.until("g", partial(seats.of, order), LONG_S)) for order in range(count)]
        await begun(awaiting, count)
        seats.decided = dict.fromkeys(range(0, count, 2), "reserved")
        notifier.notify("g")
        assert [await wait for wait in waits[::2]] == ["reserved"] * len(waits[::2])
        assert not any(wait.done() for wait in waits[1::2])
        seats.decided |= dict.fromkeys(range(1, count, 2), "refused")
        notifier.notify("g")
    assert [wait.result() for wait in waits[1::2]] == ["refused"] * len(waits[1::2])


async def test_a_change_costs_one_look_for_each_who_waits() -> None:
    notifier, seats = ChangeNotifier(), Seats()
    awaiting = ViewWaiter(notifier)
    async with asyncio.TaskGroup() as tasks:
        wait = tasks.create_task(awaiting.until("g", lambda: seats.of(1), LONG_S))
        await begun(awaiting, 1)
        for _ in range(50):
            notifier.notify("g")
        seats.decided[1] = "reserved"
        await wait
    # One before the wait, and one for the fifty changes that came at once.
    assert seats.looks == 2


async def test_changes_of_another_key_wake_nobody() -> None:
    notifier, seats = ChangeNotifier(), Seats()
    awaiting = ViewWaiter(notifier)
    wait = asyncio.create_task(awaiting.until("g", lambda: seats.of(1), LONG_S))
    await begun(awaiting, 1)
    notifier.notify("h")
    await asyncio.sleep(0.01)
    assert seats.looks == 1
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait


async def test_who_gives_up_leaves_nothing_behind() -> None:
    notifier = ChangeNotifier()
    awaiting = ViewWaiter(notifier)
    with pytest.raises(TimeoutError):
        await awaiting.until("g", lambda: None, 0.01)
    assert len(awaiting) == 0
    assert len(notifier) == 0


async def test_an_error_of_a_look_is_raised_in_the_call_that_waits_and_nowhere_else() -> None:
    notifier, seats = ChangeNotifier(), Seats()
    awaiting = ViewWaiter(notifier)
    lost = False

    def look() -> str | None:
        if lost:
            raise NotReady("the partition has moved")
        return None

    async with asyncio.TaskGroup() as tasks:
        failing = tasks.create_task(_error_of(awaiting, look))
        well = tasks.create_task(awaiting.until("g", lambda: seats.of(1), LONG_S))
        await begun(awaiting, 2)
        lost, seats.decided[1] = True, "reserved"
        notifier.notify("g")
    assert isinstance(failing.result(), NotReady)
    assert well.result() == "reserved"


async def _error_of(awaiting: ViewWaiter, look: object) -> Exception | None:
    try:
        await awaiting.until("g", look, LONG_S)  # type: ignore[arg-type]
    except NotReady as error:
        return error
    return None
