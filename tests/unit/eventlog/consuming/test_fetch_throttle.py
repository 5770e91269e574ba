"""A consumer fetches at once after an empty response, and after a pause if the response had records."""

from __future__ import annotations

import asyncio
import time

import pytest

from eventlog.consuming import fetch_throttle
from eventlog.consuming.fetch_throttle import FetchThrottle
from eventlog.faust.access import wrap_fetch_requests

PACE_S = 0.05


class Fetcher:
    """Gives the responses of a test, and records when each was requested."""

    def __init__(self, *responses: bool) -> None:
        self._responses = list(responses)
        self.requests: list[tuple[int, float]] = []

    async def _proc_fetch_request(self, assignment: object, node_id: int, request: object) -> bool:
        self.requests.append((node_id, time.monotonic()))
        return self._responses.pop(0)

    async def fetch(self, node_id: int) -> bool:
        return await self._proc_fetch_request(None, node_id, None)


async def test_a_fetch_waits_after_a_response_with_records() -> None:
    fetcher = Fetcher(True, False, False)
    wrap_fetch_requests(fetcher, FetchThrottle(PACE_S, 60.0).throttle)
    assert await fetcher.fetch(1)
    answered = time.monotonic()
    assert not await fetcher.fetch(1)
    assert fetcher.requests[1][1] - answered >= PACE_S - 0.001
    emptied = time.monotonic()
    await fetcher.fetch(1)
    assert fetcher.requests[2][1] - emptied < PACE_S


async def test_a_busy_consumer_waits_longer() -> None:
    fetcher = Fetcher(True, True, True)
    one = FetchThrottle(0.0, PACE_S)
    wrap_fetch_requests(fetcher, one.throttle)
    await fetcher.fetch(1)
    one.count(1_000)
    answered = time.monotonic()
    await fetcher.fetch(1)
    assert fetcher.requests[1][1] - answered >= PACE_S - 0.001


def test_a_consumer_is_busy_while_it_receives_many_records_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("eventlog.consuming.fetch_throttle.time.monotonic", lambda: now)
    one = FetchThrottle()

    def receive(each: int, times: int) -> list[bool]:
        nonlocal now
        found = []
        for _ in range(times):
            now += fetch_throttle.PACE_S
            one.count(each)
            found.append(one.is_busy)
        return found

    few, many = (
        int(fetch_throttle.BUSY_PER_S * fetch_throttle.PACE_S) - 1,
        int(fetch_throttle.BUSY_PER_S * fetch_throttle.PACE_S) * 4,
    )
    assert not any(receive(few, 500))
    began = receive(many, 500)
    assert not began[0]
    assert all(began[int(fetch_throttle.WINDOW_S / fetch_throttle.PACE_S) :])
    over = receive(0, 500)
    assert over[0]
    assert not over[-1]


def test_a_burst_after_a_quiet_time_does_not_make_a_consumer_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("eventlog.consuming.fetch_throttle.time.monotonic", lambda: now)
    one = FetchThrottle()
    now += 60
    one.count(100)
    assert not one.is_busy


async def test_each_broker_is_throttled_separately() -> None:
    fetcher = Fetcher(True, True)
    wrap_fetch_requests(fetcher, FetchThrottle(60.0).throttle)
    began = time.monotonic()
    await fetcher.fetch(1)
    await fetcher.fetch(2)
    assert time.monotonic() - began < 30


async def test_a_cancelled_fetch_returns_while_it_waits() -> None:
    fetcher = Fetcher(True, True)
    wrap_fetch_requests(fetcher, FetchThrottle(60.0).throttle)
    await fetcher.fetch(1)
    pausing = asyncio.ensure_future(fetcher.fetch(1))
    await asyncio.sleep(0)
    pausing.cancel()
    # aiokafka's close waits for it to return.
    assert not await pausing
