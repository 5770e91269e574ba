"""Stripe's events about changes of the account book: calls, and incidents that no call has caused."""

from __future__ import annotations

import hashlib

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.details import NO_DETAILS, Details
from simulators.psp.accounts.holds import Change, Hold
from simulators.psp.accounts.incidents import Dispute
from simulators.psp.stripe import money_objects, objects
from simulators.psp.stripe.objects import Json

_DISPUTE_EVENTS = {
    pb.STATUS_DISPUTE_OPENED: "charge.dispute.created",
    pb.STATUS_DISPUTE_EVIDENCE_DUE: "charge.dispute.updated",
    pb.STATUS_DISPUTE_UNDER_REVIEW: "charge.dispute.updated",
    pb.STATUS_DISPUTE_WON: "charge.dispute.closed",
    pb.STATUS_DISPUTE_LOST: "charge.dispute.closed",
}
_REFUND_EVENTS = {
    pb.STATUS_REFUNDED: "refund.created",
    pb.STATUS_REFUND_FAILED: "refund.failed",
    pb.STATUS_REFUND_REVERSED: "refund.updated",
}
_INTENT_EVENTS = {
    pb.STATUS_AUTHORISED: "payment_intent.amount_capturable_updated",
    pb.STATUS_ACTION_REQUIRED: "payment_intent.requires_action",
    pb.STATUS_CAPTURED: "payment_intent.succeeded",
    pb.STATUS_VOIDED: "payment_intent.canceled",
    pb.STATUS_HOLD_GONE: "payment_intent.canceled",
}


def event(change: Change) -> Json | None:
    """The event of a change; None if Stripe sends none."""
    subject = _subject(change)
    if subject is None:
        return None
    kind, described = subject
    name = hashlib.sha256(f"{kind}/{change.result.key}/{change.result.status}".encode()).hexdigest()[:24]
    return {
        "id": f"evt_{name}",
        "object": "event",
        "api_version": "2025-01-01",
        "created": change.at_ms // 1000,
        "type": kind,
        "data": {"object": described},
        "livemode": False,
    }


def _subject(change: Change) -> tuple[str, Json] | None:
    request, result, hold = change.request, change.result, change.hold
    if hold is None:
        return "payment_intent.payment_failed", objects.failed_intent(request)
    if isinstance(request, Dispute):
        return _DISPUTE_EVENTS[result.status], money_objects.dispute(request, hold)
    if result.status == pb.STATUS_FRAUD_WARNING:
        return "radar.early_fraud_warning.created", money_objects.fraud_warning(hold, change.at_ms)
    if result.status in _REFUND_EVENTS:
        return _REFUND_EVENTS[result.status], _refund(change, hold)
    kind = _INTENT_EVENTS.get(result.status)
    if result.status == pb.STATUS_AUTHORISED and hold.sale:
        kind = _INTENT_EVENTS[pb.STATUS_CAPTURED]
    return (kind, _intent(change, hold)) if kind is not None else None


def _refund(change: Change, hold: Hold) -> Json:
    result = change.result
    if result.status == pb.STATUS_REFUNDED:
        return objects.refund(hold, result.key, result.amount_minor, _given(change))
    made = Details(change.at_ms, metadata=change.request.metadata)
    return objects.refund(hold, result.key, result.amount_minor, made, result.status)


def _intent(change: Change, hold: Hold) -> Json:
    capture_key = change.request.key if isinstance(change.request, pb.CaptureRequest) else ""
    made = objects.intent(
        hold,
        capture_key,
        details=Details(change.made_ms or change.at_ms, metadata=change.metadata),
        capture_details=_given(change) if capture_key else NO_DETAILS,
    )
    return {**made, "created": change.at_ms // 1000}


def _given(change: Change) -> Details:
    """Details of the call of a change; those of the standard metadata have none."""
    request = change.request
    if request.without_metadata:
        return Details(change.at_ms, metadata={})
    return Details(change.at_ms, metadata=dict(request.metadata) or None)
