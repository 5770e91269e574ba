"""Limits by identity for what costs far more to answer than to ask: bytes of lists, pictures.

The table of chassis/identity/policy.toml counts calls. A call for 500 orders costs as much as a hundred others, so it
is charged for what it was given: an identity that has had more than its rate allows is refused the next time. Must only
be used on the event loop's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.admission.rate_limit import Bucket, Limit
from chassis.rpc.caller import identity
from chassis.rpc.errors import ApiError


class Costly:
    """One costly thing. `limit` is its amount a second, and at once, for each identity of one process."""

    def __init__(self, what: str, limit: Limit, clock: Callable[[], float] = time.monotonic) -> None:
        """`what` completes: too many …"""
        self._what = what
        self._limit = limit
        self._clock = clock
        #: As many as there are names in the table.
        self._buckets: dict[str, Bucket] = {}

    def require(self) -> None:
        """Raises ApiError RATE_LIMITED where the caller has had more than its rate allows."""
        bucket = self._buckets.get(identity())
        wait_s = bucket.debt_s() if bucket is not None else 0.0
        if wait_s:
            raise ApiError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                errors_pb2.ERROR_REASON_RATE_LIMITED,
                f"{identity()} asks for too many {self._what}; call again later",
                metadata={"identity": identity()},
                retry_after_ms=int(wait_s * 1_000) + 1,
            )

    def charge(self, amount: float) -> None:
        """The caller was given so much."""
        name = identity()
        if name:
            bucket = self._buckets.get(name)
            if bucket is None:
                bucket = self._buckets[name] = Bucket(self._limit, self._clock)
            bucket.owe(amount)
