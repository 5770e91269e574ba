"""A provider without an account in this process, and the place of a payment method that belongs to no provider.

Calls that begin a payment are declined, and the reason names the missing setting. Calls about existing money are
retried later, so that a setting lost in a deployment costs nobody money.
"""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, ProviderOutcome

from services.payments.providers.port import idempotency_key, outcome_of

#: Name of the provider of payment methods without one.
UNKNOWN_PROVIDER = "unknown"
#: Delay of retries, in milliseconds. A setting changes only with a restart.
RETRY_AFTER_MS = 60_000


class Unconfigured:
    """Provider that makes no calls."""

    available = True

    def __init__(self, name: str, reason: str) -> None:
        """`reason` for which it makes none; it contains no payment method."""
        self.name = name
        self._reason = reason

    @classmethod
    def without_setting(cls, name: str, setting: str) -> Unconfigured:
        """A provider that the environment variable `setting` would configure."""
        return cls(name, f"payments by {name} are not configured here: {setting} is not set")

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Declines calls that begin a payment; the others are not possible now. See Provider."""
        # Raises ValueError for a malformed call, as each adapter does.
        idempotency_key(call)
        outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
        if call.operation in (d.OPERATION_AUTHORISE, d.OPERATION_SALE):
            outcome.declined.reason = self._reason
        else:
            outcome.not_possible.error = self._reason
            outcome.not_possible.after_ms = RETRY_AFTER_MS
        return outcome

    async def close(self) -> None:
        """Does nothing: no connection is open."""
