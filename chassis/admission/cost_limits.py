"""Rate limits by cost, for responses that cost far more than the request: bytes of lists, pictures.

The limits in chassis/identity/policy.toml count calls. A call for 500 orders costs as much as a hundred others, so the
identity is charged after the response: once it exceeds its rate, its next call is refused.

Used on the event loop's thread only.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.admission.rate_limit import RateLimit, TokenBucket
from chassis.rpc.caller import current_identity
from chassis.rpc.errors import ApiError


class CostLimit:
    """One kind of cost. `limit` applies to each identity in one process."""

    def __init__(self, costs: str, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        """`costs` completes the error message "… asks for too many"."""
        self._costs = costs
        self._limit = limit
        self._clock = clock
        #: By identity; as many as the policy has names.
        self._buckets: dict[str, TokenBucket] = {}

    def require(self) -> None:
        """Raises ApiError RATE_LIMITED if the caller exceeded its rate."""
        bucket = self._buckets.get(current_identity())
        wait_s = bucket.debt_s() if bucket is not None else 0.0
        if wait_s:
            raise ApiError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                errors_pb2.ERROR_REASON_RATE_LIMITED,
                f"{current_identity()} asks for too many {self._costs}; retry later",
                metadata={"identity": current_identity()},
                retry_after_ms=int(wait_s * 1_000) + 1,
            )

    def charge(self, amount: float) -> None:
        """Charges the caller for a response."""
        identity = current_identity()
        if identity:
            bucket = self._buckets.get(identity)
            if bucket is None:
                bucket = self._buckets[identity] = TokenBucket(self._limit, self._clock)
            bucket.overdraw(amount)
