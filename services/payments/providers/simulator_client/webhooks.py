"""Notifications of the simulated provider: JSON with the fields of CallResult, signed with HMAC-SHA256."""

from __future__ import annotations

from typing import Any

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from services.payments.providers.notifications import Claim, HmacReader, NotUnderstood, outcome_of_key
from services.payments.providers.simulator_client.mapping import set_result

_FIELDS = ("hold", "amount_minor", "currency", "capturable_until_ms", "reason", "action_url")


class SimulatorWebhooks(HmacReader):
    """Reader of the simulated provider's notifications."""

    header = "simprovider-signature"

    def claim_of(self, event: Any) -> Claim | None:
        """The claim of a notification. Raises NotUnderstood."""
        outcome = outcome_of_key(event["key"])
        if outcome is None:
            raise NotUnderstood(f"unknown idempotency key {str(event['key'])[:80]!r}")
        fields = {name: event[name] for name in _FIELDS}
        set_result(outcome, pb.CallResult(key=event["key"], status=pb.Status.Value(event["status"]), **fields))
        return str(event["group"]), outcome
