"""What a refusal tells gRPC's own retries: when to call again, or not to, where the caller would hear nothing."""

from __future__ import annotations

import pytest

from chassis.rpc.errors import NO_RETRY, NOT_READY_RETRY_MS, to_api_error, trailing_metadata
from eventlog.core.errors import NotReady

SOON_S = NOT_READY_RETRY_MS / 1_000


@pytest.mark.parametrize(
    ("left_s", "told"),
    [(None, str(NOT_READY_RETRY_MS)), (10.0, str(NOT_READY_RETRY_MS)), (SOON_S + 0.02, NO_RETRY), (0.01, NO_RETRY)],
)
def test_a_retry_that_can_not_be_answered_in_time_is_not_asked_for(left_s: float | None, told: str) -> None:
    sent = dict(trailing_metadata(to_api_error(NotReady("recovering")), left_s))
    assert sent["grpc-retry-pushback-ms"] == told
