"""IdempotencyCache: one run of the work per key, in bounded memory, with a clock under the test's control."""

from __future__ import annotations

import asyncio

import pytest

from eventlog.core.errors import BrokerUnavailable
from services.payments.api.idempotency import IdempotencyCache


class Work:
    """Counts its runs. A run waits for `go`, and raises `error` if there is one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.done = 0
        self.go = asyncio.Event()
        self._error = error

    async def __call__(self) -> int:
        await self.go.wait()
        if self._error is not None:
            raise self._error
        self.done += 1
        return self.done


async def test_work_runs_once_for_all_callers_and_again_after_its_lifetime() -> None:
    now = 100.0
    repeats: IdempotencyCache[int] = IdempotencyCache(10, 60.0, lambda: now)
    work = Work()
    asking = [asyncio.ensure_future(repeats.once(b"k", work, 30)) for _ in range(5)]
    work.go.set()
    assert await asyncio.gather(*asking) == [1] * 5
    now += 59
    assert await repeats.once(b"k", work, 30) == 1
    now += 2
    assert await repeats.once(b"k", work, 30) == 2


async def test_the_oldest_result_is_evicted_at_capacity() -> None:
    repeats: IdempotencyCache[int] = IdempotencyCache(3, 60.0)
    work = Work()
    work.go.set()
    for key in (b"1", b"2", b"3", b"4"):
        await repeats.once(key, work, 30)
    assert len(repeats) == 3
    assert [await repeats.once(key, work, 30) for key in (b"4", b"1")] == [4, 5]


async def test_a_failure_reaches_the_waiting_callers_and_is_not_cached() -> None:
    repeats: IdempotencyCache[int] = IdempotencyCache(3, 60.0)
    work = Work(BrokerUnavailable("away"))
    asking = [asyncio.ensure_future(repeats.once(b"k", work, 30)) for _ in range(3)]
    work.go.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(one) for one in found} == {BrokerUnavailable}
    assert len(repeats) == 0
    good = Work()
    good.go.set()
    assert await repeats.once(b"k", good, 30) == 1


async def test_a_cancelled_or_slow_run_does_not_block_other_callers() -> None:
    repeats: IdempotencyCache[int] = IdempotencyCache(3, 60.0)
    work = Work()
    first = asyncio.ensure_future(repeats.once(b"k", work, 30))
    await asyncio.sleep(0)
    with pytest.raises(BrokerUnavailable):
        await repeats.once(b"k", work, 0.01)
    second = asyncio.ensure_future(repeats.once(b"k", work, 30))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(BrokerUnavailable):
        await second
    assert first.cancelled()
