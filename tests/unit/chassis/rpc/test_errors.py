"""The push-back to gRPC's own retries: a delay, or none where the deadline would pass before the retry."""

from __future__ import annotations

import pytest

from chassis.rpc.errors import NO_RETRY, NOT_READY_RETRY_MS, to_api_error, trailing_metadata
from eventlog.core.errors import NotReady

SOON_S = NOT_READY_RETRY_MS / 1_000


@pytest.mark.parametrize(
    ("left_s", "pushback"),
    [(None, str(NOT_READY_RETRY_MS)), (10.0, str(NOT_READY_RETRY_MS)), (SOON_S + 0.02, NO_RETRY), (0.01, NO_RETRY)],
)
def test_grpc_does_not_retry_without_time_for_another_attempt(left_s: float | None, pushback: str) -> None:
    sent = dict(trailing_metadata(to_api_error(NotReady("recovering")), left_s))
    assert sent["grpc-retry-pushback-ms"] == pushback
