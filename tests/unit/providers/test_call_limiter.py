"""The client-side rate limit of a provider. Method: virtual time."""

from __future__ import annotations

import asyncio

import pytest

from chassis.outside.call_errors import NotYet
from services.payments.providers.call_limiter import MAX_WAIT_S, CallLimiter
from tests.unit.virtual_time import run


def test_requests_above_the_rate_wait_for_their_turn_and_a_long_queue_is_retried_later() -> None:
    async def flood() -> tuple[list[float], int]:
        clock = asyncio.get_running_loop().time
        limiter = CallLimiter(10, clock)
        made: list[float] = []
        refused = 0

        async def request() -> None:
            nonlocal refused
            try:
                await limiter.acquire()
            except NotYet as error:
                assert error.after_ms > MAX_WAIT_S * 1000
                refused += 1
            else:
                made.append(clock())

        await asyncio.gather(*(request() for _ in range(100)))
        return made, refused

    made, refused = run(flood())
    # A burst of one second, then ten a second for as long as a request may wait.
    assert sum(at == made[0] for at in made) == 10
    assert 28 <= len(made) <= 32
    assert made[-1] - made[0] == pytest.approx(MAX_WAIT_S, abs=0.2)
    assert len(made) + refused == 100


def test_a_pause_holds_all_requests_back_until_it_ends() -> None:
    async def paused() -> float:
        clock = asyncio.get_running_loop().time
        limiter = CallLimiter(0, clock)
        await limiter.acquire()
        limiter.pause(5_000)
        with pytest.raises(NotYet) as refused:
            await limiter.acquire()
        assert 4_900 < refused.value.after_ms <= 5_001
        await asyncio.sleep(4)
        began = clock()
        await limiter.acquire()
        return clock() - began

    assert run(paused()) == pytest.approx(1, abs=0.01)
