"""The push-back to gRPC's own retries: they stop where the deadline would pass before the next attempt."""

from __future__ import annotations

import pytest

from chassis.admission.calls_in_flight import OVERLOADED, OVERLOADED_RETRY_MS
from chassis.rpc.client_config.retry_policy import longest_pause_s
from chassis.rpc.errors import NO_RETRY, PUSHBACK, to_api_error, trailing_metadata
from eventlog.core.errors import NotReady


def pushback(left_s: float | None, previous_attempts: int) -> str | bytes | None:
    return dict(trailing_metadata(to_api_error(NotReady("recovering")), left_s, previous_attempts)).get(PUSHBACK)


@pytest.mark.parametrize("previous_attempts", range(4))
def test_grpc_does_not_retry_without_time_for_another_attempt(previous_attempts: int) -> None:
    pause_s = longest_pause_s(previous_attempts + 1)
    assert pushback(pause_s + 0.1, previous_attempts) == NO_RETRY
    assert pushback(0.01, previous_attempts) == NO_RETRY


def test_an_unavailable_service_leaves_the_pauses_to_the_retry_policy() -> None:
    assert [pushback(10.0, attempts) for attempts in range(4)] == [None] * 4
    assert pushback(None, 0) is None


def test_an_overloaded_service_names_its_delay() -> None:
    assert dict(OVERLOADED.trailing_metadata(10.0))[PUSHBACK] == str(OVERLOADED_RETRY_MS)
    assert dict(OVERLOADED.trailing_metadata(0.1))[PUSHBACK] == NO_RETRY
