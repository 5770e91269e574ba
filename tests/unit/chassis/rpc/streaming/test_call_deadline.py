"""A call waits for a change of its key, is woken by it, and stops before its deadline."""

from __future__ import annotations

import asyncio

import pytest

from chassis.rpc.streaming.call_deadline import MARGIN_S, UNLIMITED_S, CallDeadline, wait_until
from eventlog.views.change_notifier import ChangeNotifier


class Call:
    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        return self._seconds


def test_a_wait_ends_before_the_deadline() -> None:
    assert 0 < CallDeadline(Call(1.0)).left_s() <= 1.0 - MARGIN_S
    assert CallDeadline(Call(1.0)).left_s(0.5) == 0.5


@pytest.mark.parametrize(("sent", "received"), [(10.04, 10.1), (1.001, 1.01), (100.1, 101.0), (60.0, 60.0)])
def test_a_timeout_that_was_rounded_up_on_its_way_is_met(sent: float, received: float) -> None:
    assert CallDeadline(Call(received)).left_s(1_000) < sent - MARGIN_S / 2


def test_the_remaining_time_is_not_negative() -> None:
    assert CallDeadline(Call(MARGIN_S / 2)).left_s() == 0
    assert CallDeadline(Call(-1.0)).left_s() == 0


def test_a_call_without_a_deadline_ends() -> None:
    assert 0 < CallDeadline(Call(None)).left_s() <= UNLIMITED_S


async def test_an_existing_result_is_returned_without_waiting() -> None:
    notifier = ChangeNotifier()
    assert await wait_until(notifier, "key", lambda: "found", 0) == "found"
    assert len(notifier) == 0


async def test_a_change_of_the_key_wakes_and_a_change_of_another_does_not() -> None:
    notifier = ChangeNotifier()
    looks: list[int] = []
    found: list[str] = []

    def look() -> str | None:
        looks.append(1)
        return found[0] if found else None

    waiting = asyncio.create_task(wait_until(notifier, "key", look, 5))
    await asyncio.wait([waiting], timeout=0)
    notifier.notify("other")
    await asyncio.wait([waiting], timeout=0)
    assert len(looks) == 1
    found.append("seen")
    notifier.notify("key")
    assert await waiting == "seen"
    assert len(looks) == 2


async def test_a_wait_without_a_result_times_out_and_unsubscribes() -> None:
    notifier = ChangeNotifier()
    with pytest.raises(TimeoutError):
        await wait_until(notifier, "key", lambda: None, 0.01)
    assert len(notifier) == 0


async def test_an_error_of_look_is_raised() -> None:
    def look() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await wait_until(ChangeNotifier(), "key", look, 5)
