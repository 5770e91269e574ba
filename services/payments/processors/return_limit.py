"""Limits how many returns of unexpected funds a process requests from providers in one hour.

A log that is restored to an earlier time takes the money of all later orders for unexpected. Beyond the limit a call is
not made; its result is RETRY_LATER, and an operator can approve it. Approved returns neither wait nor count.
"""

from __future__ import annotations

from collections import deque

from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, ProviderOutcome

HOUR_MS = 3_600_000
STOPPED = "returns of unexpected funds are stopped: an operator has to approve this one"
LIMITED = "the limit of returns of unexpected funds in one hour is reached"


class ReturnLimit:
    """The limit of one process."""

    def __init__(self, per_hour: int) -> None:
        """`per_hour` 0: no return is made without an operator's approval."""
        self._per_hour = per_hour
        #: When the last returns were made, in milliseconds since the epoch.
        self._made: deque[int] = deque()

    def refuse(self, call: ProviderCall, now_ms: int) -> ProviderOutcome | None:
        """The result of a call that may not be made now; None: it may, and counts."""
        if not call.returns_suspense or call.approved:
            return None
        made = self._made
        while made and made[0] <= now_ms - HOUR_MS:
            made.popleft()
        if len(made) < self._per_hour:
            made.append(now_ms)
            return None
        outcome = ProviderOutcome(
            order=call.order, operation=call.operation, attempt=call.attempt, origin=OUTCOME_ORIGIN_CALL
        )
        outcome.retry_later.error = LIMITED if self._per_hour else STOPPED
        outcome.retry_later.after_ms = made[0] + HOUR_MS - now_ms if made else HOUR_MS
        return outcome
