"""The back-off of start-up steps: retries until success, and only for the given errors."""

from __future__ import annotations

import pytest

from chassis.lifecycle import backoff
from chassis.lifecycle.backoff import retries_until_success


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "MAX_WAIT_S", 0.0)


async def test_a_step_is_retried_until_it_succeeds() -> None:
    attempts = 0
    async for attempt in retries_until_success(OSError, TimeoutError):
        with attempt:
            attempts += 1
            if attempts < 20:
                raise OSError
    assert attempts == 20


async def test_another_error_is_raised_at_once() -> None:
    attempts = 0
    with pytest.raises(ValueError, match="wrong"):
        async for attempt in retries_until_success(OSError):
            with attempt:
                attempts += 1
                raise ValueError("wrong")
    assert attempts == 1


async def test_the_pause_grows_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_WAIT_S", 0.0001)
    monkeypatch.setattr(backoff, "MAX_WAIT_S", 0.001)
    monkeypatch.setattr(backoff, "JITTER_S", 0.0)
    pauses = []
    async for attempt in retries_until_success(OSError):
        with attempt:
            pauses.append(attempt.next_wait)
            if attempt.num < 6:
                raise OSError
    assert pauses == pytest.approx([0.0001, 0.0002, 0.0004, 0.0008, 0.001, 0.001])
