"""A provider without an account in this process.

Calls that begin a payment are declined, and the reason names the missing setting. Calls about existing money are
retried later, so that a setting lost in a deployment costs nobody money.
"""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, ProviderOutcome

from services.payments.providers.port import idempotency_key, outcome_of

#: Delay of retries, in milliseconds. A setting changes only with a restart.
RETRY_AFTER_MS = 60_000


class Unconfigured:
    """Provider that makes no calls."""

    available = True

    def __init__(self, name: str, setting: str) -> None:
        """`setting` is the environment variable that would configure the provider."""
        self.name = name
        self._reason = f"payments by {name} are not configured here: {setting} is not set"

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Declines calls that begin a payment; the others get RETRY_LATER. See Provider."""
        # Raises ValueError for a malformed call, as each adapter does.
        idempotency_key(call)
        outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
        if call.operation in (d.OPERATION_AUTHORISE, d.OPERATION_SALE):
            outcome.declined.reason = self._reason
        else:
            outcome.retry_later.error = self._reason
            outcome.retry_later.after_ms = RETRY_AFTER_MS
        return outcome

    async def close(self) -> None:
        """Does nothing: no connection is open."""
