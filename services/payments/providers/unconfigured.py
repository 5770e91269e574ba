"""Stands for a provider that this process has no account for.

Nothing new is begun with it, and the shopper is told why at once. Calls about money that is already there wait instead:
a setting that went missing must never make anybody lose money.
"""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, ProviderOutcome

from services.payments.providers.port import idempotency_key, outcome_of

#: What waits is asked again after this; a setting changes only with a restart.
AFTER_MS = 60_000


class Unconfigured:
    """A provider without an account."""

    well = True

    def __init__(self, name: str, setting: str) -> None:
        """`setting` is the variable that would configure it."""
        self.name = name
        self._why = f"payments by {name} are not configured here: {setting} is not set"

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Declines what would begin a payment, and puts off the rest. See Provider."""
        # A call that makes no sense is a defect of ours, here too.
        idempotency_key(call)
        outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
        if call.operation in (d.OPERATION_AUTHORISE, d.OPERATION_SALE):
            outcome.declined.reason = self._why
        else:
            outcome.retry_later.error = self._why
            outcome.retry_later.after_ms = AFTER_MS
        return outcome

    async def close(self) -> None:
        """Nothing is open."""
