"""Room is bounded and shared out, first come first served, and a caller that gives up waiting leaves no gap."""

from __future__ import annotations

import asyncio

import pytest

from chassis.admission.capacity import CapacityLimiter
from chassis.rpc.caller import IDENTITY
from chassis.rpc.errors import ApiError


async def waits(task: asyncio.Task[None]) -> bool:
    await asyncio.wait([task], timeout=0)
    return not task.done()


async def test_what_does_not_fit_waits_until_something_is_given_back() -> None:
    room = CapacityLimiter(10)
    assert room.try_acquire(8)
    assert not room.try_acquire(3)
    taking = asyncio.create_task(room.acquire(3))
    assert await waits(taking)
    # Nobody overtakes.
    assert not room.try_acquire(1)
    room.release(8)
    await taking
    assert room.in_use == 3


async def test_one_piece_larger_than_the_room_goes_alone() -> None:
    room = CapacityLimiter(10)
    await room.acquire(500)
    taking = asyncio.create_task(room.acquire(1))
    assert await waits(taking)
    room.release(500)
    await taking
    assert room.in_use == 1


async def test_who_gives_up_waiting_makes_way() -> None:
    room = CapacityLimiter(10)
    await room.acquire(9)
    large = asyncio.create_task(room.acquire(5))
    small = asyncio.create_task(room.acquire(1))
    assert await waits(small)
    large.cancel()
    await asyncio.wait([large])
    await small
    assert room.in_use == 10


async def test_a_place_given_to_one_who_gives_up_at_that_moment_is_not_lost() -> None:
    room = CapacityLimiter(1)
    await room.acquire(1)
    waiting = asyncio.create_task(room.acquire(1))
    assert await waits(waiting)
    room.release(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert room.in_use == 0
    assert room.try_acquire(1)


async def test_an_identity_has_its_share_and_keeps_nobody_else_from_theirs() -> None:
    room = CapacityLimiter(10, share=6)
    assert room.try_acquire(6, "shop")
    assert not room.try_acquire(1, "shop")
    waiting = asyncio.create_task(room.acquire(2, "shop"))
    assert await waits(waiting)
    # The one that waits, waits for its share and not for the room.
    assert room.try_acquire(3, "support")
    room.release(3, "support")
    room.release(6, "shop")
    await waiting
    assert room.in_use == 2


async def test_a_piece_larger_than_the_share_goes_where_its_identity_has_nothing_else() -> None:
    room = CapacityLimiter(10, share=4)
    assert room.try_acquire(8, "shop")
    assert not room.try_acquire(1, "shop")
    assert room.try_acquire(2, "support")
    room.release(8, "shop")
    room.release(2, "support")
    assert room.try_acquire(4, "shop")


async def test_a_call_takes_its_place_in_the_name_of_its_caller() -> None:
    room = CapacityLimiter(10, share=1)
    IDENTITY.set("shop")
    with room.slot("are drawn"):
        with pytest.raises(ApiError) as caught, room.slot("are drawn"):
            raise AssertionError("it had a place")
        assert caught.value.reason_name == "OVERLOADED"
    assert room.in_use == 0
    # Not counted: what replicas forward, and a developer's machine.
    IDENTITY.set("")
    with room.slot("are drawn"), room.slot("are drawn"):
        assert room.in_use == 2
