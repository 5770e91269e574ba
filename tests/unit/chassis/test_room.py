"""Room is bounded, first come first served, and whoever gives up waiting leaves no gap."""

from __future__ import annotations

import asyncio

from chassis.room import Room


async def waits(task: asyncio.Task[None]) -> bool:
    await asyncio.wait([task], timeout=0)
    return not task.done()


async def test_what_does_not_fit_waits_until_something_is_given_back() -> None:
    room = Room(10)
    assert room.try_take(8)
    assert not room.try_take(3)
    taking = asyncio.create_task(room.take(3))
    assert await waits(taking)
    # Nobody overtakes.
    assert not room.try_take(1)
    room.give(8)
    await taking
    assert room.taken == 3


async def test_one_piece_larger_than_the_room_goes_alone() -> None:
    room = Room(10)
    await room.take(500)
    taking = asyncio.create_task(room.take(1))
    assert await waits(taking)
    room.give(500)
    await taking
    assert room.taken == 1


async def test_who_gives_up_waiting_makes_way() -> None:
    room = Room(10)
    await room.take(9)
    large = asyncio.create_task(room.take(5))
    small = asyncio.create_task(room.take(1))
    assert await waits(small)
    large.cancel()
    await asyncio.wait([large])
    await small
    assert room.taken == 10


async def test_a_place_given_to_one_who_gives_up_at_that_moment_is_not_lost() -> None:
    room = Room(1)
    await room.take(1)
    waiting = asyncio.create_task(room.take(1))
    assert await waits(waiting)
    room.give(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert room.taken == 0
    assert room.try_take(1)
