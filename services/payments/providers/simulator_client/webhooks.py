"""Notifications of the simulated provider: JSON with the fields of CallResult, signed with HMAC-SHA256.

News that no call has caused name the order itself: operations by hand, reversed refunds, disputes, fraud warnings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from services.payments.providers.notifications import HmacReader, NotUnderstood, news, outcome_of_key
from services.payments.providers.port import Claim
from services.payments.providers.simulator_client.mapping import set_result

_FIELDS = ("hold", "amount_minor", "currency", "capturable_until_ms", "reason", "action_url")
_BY_HAND = {
    pb.STATUS_CAPTURED: d.OPERATION_CAPTURE,
    pb.STATUS_VOIDED: d.OPERATION_VOID,
    pb.STATUS_REFUNDED: d.OPERATION_REFUND,
}
_DISPUTES = {
    pb.STATUS_DISPUTE_OPENED: i.DISPUTE_STATE_OPEN,
    pb.STATUS_DISPUTE_EVIDENCE_DUE: i.DISPUTE_STATE_OPEN,
    pb.STATUS_DISPUTE_UNDER_REVIEW: i.DISPUTE_STATE_OPEN,
    pb.STATUS_DISPUTE_WON: i.DISPUTE_STATE_WON,
    pb.STATUS_DISPUTE_LOST: i.DISPUTE_STATE_LOST,
}


class SimulatorWebhooks(HmacReader):
    """Reader of the simulated provider's notifications."""

    header = "simprovider-signature"

    def claim_of(self, event: Any) -> Claim | None:
        """The claim of a notification. Raises NotUnderstood."""
        status, key = pb.Status.Value(event["status"]), str(event["key"])
        outcome = outcome_of_key(key)
        if status in _DISPUTES or status == pb.STATUS_FRAUD_WARNING or event.get("by_hand"):
            outcome = news()
            outcome.order = str(event["order"])
        elif outcome is None:
            raise NotUnderstood(f"unknown idempotency key {key[:80]!r}")
        outcome.environment = str(event.get("environment", ""))
        if status in (pb.STATUS_REFUND_FAILED, pb.STATUS_REFUND_REVERSED):
            _set_reversed(outcome, event)
        elif status in _DISPUTES:
            _set_dispute(outcome, event, _DISPUTES[status])
        elif status == pb.STATUS_FRAUD_WARNING:
            outcome.fraud_warning.hold = event["hold"]
            outcome.fraud_warning.warning = key
            outcome.fraud_warning.reason = event["reason"]
        elif event.get("by_hand") and status in _BY_HAND:
            outcome.external.hold = event["hold"]
            outcome.external.operation = _BY_HAND[status]
            outcome.external.amount_minor = 0 if status == pb.STATUS_VOIDED else event["amount_minor"]
            outcome.external.currency = event["currency"]
            outcome.external.reference = key
        else:
            fields = {name: event[name] for name in _FIELDS}
            set_result(outcome, pb.CallResult(key=key, status=status, **fields))
        return str(event["group"]), outcome


def _set_reversed(outcome: i.ProviderOutcome, event: Mapping[str, Any]) -> None:
    made = outcome.refund_reversed
    made.hold = event["hold"]
    made.amount_minor = event["amount_minor"]
    made.currency = event["currency"]
    made.reason = event["reason"]
    made.reference = event["key"]


def _set_dispute(outcome: i.ProviderOutcome, event: Mapping[str, Any], state: i.DisputeState.ValueType) -> None:
    made = outcome.dispute
    made.hold = event["hold"]
    made.dispute = event["key"]
    made.state = state
    made.amount_minor = event["amount_minor"]
    made.currency = event["currency"]
    made.withdrawn_minor = event.get("withdrawn_minor", event["amount_minor"])
    made.fee_minor = event.get("fee_minor", 0)
    made.reason = event["reason"]
    made.evidence_due_ms = int(event.get("evidence_due_ms", 0))
