"""CapacityLimiter: first come, first served, with a share an identity; a cancelled waiter leaves no gap."""

from __future__ import annotations

import asyncio

import pytest

from chassis.admission.capacity import CapacityLimiter
from chassis.rpc.caller import IDENTITY
from chassis.rpc.errors import ApiError


async def waits(task: asyncio.Task[None]) -> bool:
    await asyncio.wait([task], timeout=0)
    return not task.done()


async def test_an_acquire_waits_until_enough_slots_are_released() -> None:
    limiter = CapacityLimiter(10)
    assert limiter.try_acquire(8)
    assert not limiter.try_acquire(3)
    taking = asyncio.create_task(limiter.acquire(3))
    assert await waits(taking)
    # No request overtakes another.
    assert not limiter.try_acquire(1)
    limiter.release(8)
    await taking
    assert limiter.in_use == 3


async def test_a_request_above_the_limit_is_granted_alone() -> None:
    limiter = CapacityLimiter(10)
    await limiter.acquire(500)
    taking = asyncio.create_task(limiter.acquire(1))
    assert await waits(taking)
    limiter.release(500)
    await taking
    assert limiter.in_use == 1


async def test_a_cancelled_waiter_does_not_block_the_next() -> None:
    limiter = CapacityLimiter(10)
    await limiter.acquire(9)
    large = asyncio.create_task(limiter.acquire(5))
    small = asyncio.create_task(limiter.acquire(1))
    assert await waits(small)
    large.cancel()
    await asyncio.wait([large])
    await small
    assert limiter.in_use == 10


async def test_slots_granted_to_a_waiter_that_is_cancelled_are_released() -> None:
    limiter = CapacityLimiter(1)
    await limiter.acquire(1)
    waiting = asyncio.create_task(limiter.acquire(1))
    assert await waits(waiting)
    limiter.release(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert limiter.in_use == 0
    assert limiter.try_acquire(1)


async def test_an_identity_at_its_share_does_not_block_others() -> None:
    limiter = CapacityLimiter(10, share=6)
    assert limiter.try_acquire(6, "shop")
    assert not limiter.try_acquire(1, "shop")
    waiting = asyncio.create_task(limiter.acquire(2, "shop"))
    assert await waits(waiting)
    # The waiter lacks its share and not free slots.
    assert limiter.try_acquire(3, "support")
    limiter.release(3, "support")
    limiter.release(6, "shop")
    await waiting
    assert limiter.in_use == 2


async def test_a_request_above_the_share_is_granted_if_its_identity_holds_no_slot() -> None:
    limiter = CapacityLimiter(10, share=4)
    assert limiter.try_acquire(8, "shop")
    assert not limiter.try_acquire(1, "shop")
    assert limiter.try_acquire(2, "support")
    limiter.release(8, "shop")
    limiter.release(2, "support")
    assert limiter.try_acquire(4, "shop")


async def test_a_slot_counts_against_the_caller() -> None:
    limiter = CapacityLimiter(10, share=1)
    IDENTITY.set("shop")
    with limiter.slot("are drawn"):
        with pytest.raises(ApiError) as caught, limiter.slot("are drawn"):
            raise AssertionError("it had a place")
        assert caught.value.reason_name == "OVERLOADED"
    assert limiter.in_use == 0
    # Not counted: calls that replicas forward, and calls on a developer's machine.
    IDENTITY.set("")
    with limiter.slot("are drawn"), limiter.slot("are drawn"):
        assert limiter.in_use == 2
