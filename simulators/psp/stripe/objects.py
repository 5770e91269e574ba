"""Stripe's objects built from accounts: payment intents, refunds, events, errors.

They have the fields that a merchant needs to hold, capture, cancel and refund. Metadata (order, group, keys of the
calls) is rebuilt from the account book.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, TypeAlias

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.holds import Change, Hold, HoldState

Json: TypeAlias = dict[str, Any]

#: Prefix of the payment method of holds made over this wire.
WIRE = "stripe"

_STATUS = {
    HoldState.PENDING: "requires_action",
    HoldState.OPEN: "requires_capture",
    HoldState.CAPTURED: "succeeded",
    HoldState.VOIDED: "canceled",
    HoldState.EXPIRED: "canceled",
}
_REASON = {HoldState.VOIDED: "requested_by_customer", HoldState.EXPIRED: "automatic"}


class StripeError(Exception):
    """An error answer of Stripe's: HTTP status and error object."""

    def __init__(self, status: int, kind: str, message: str, code: str = "", **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"error": {"type": kind, "message": message, **({"code": code} if code else {}), **more}}


def owns(method: str) -> bool:
    """Whether a payment method is of a hold made over this wire."""
    return method.startswith(f"{WIRE}/")


def intent_id(hold: str) -> str:
    """Id of a hold's payment intent."""
    return "pi_" + hold.removeprefix("hold_")


def hold_of(intent: str) -> str:
    """Reference of a payment intent's hold."""
    return "hold_" + intent.removeprefix("pi_")


def refund_id(hold: str, key: str) -> str:
    """Id of a refund, which contains its hold."""
    return f"re_{hold.removeprefix('hold_')}{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def hold_of_refund(refund: str) -> str:
    """Reference of a refund's hold."""
    return "hold_" + refund.removeprefix("re_")[:24]


def intent(hold: Hold, capture_key: str = "", *, expand: bool = False) -> Json:
    """A payment intent; `expand` includes the whole charge."""
    charge = {
        "id": "ch_" + hold.hold.removeprefix("hold_"),
        "object": "charge",
        "amount": hold.asked_minor,
        "amount_captured": hold.captured_minor,
        "amount_refunded": hold.refunded_minor,
        "payment_method_details": {"type": "card", "card": {"capture_before": -(-hold.until_ms // 1000)}},
    }
    metadata = {"order": hold.order, "group": hold.group, "key": hold.key}
    if capture_key:
        metadata["capture_key"] = capture_key
    made: Json = {
        "id": intent_id(hold.hold),
        "object": "payment_intent",
        "amount": hold.asked_minor,
        "amount_capturable": hold.open_minor,
        "amount_received": hold.captured_minor,
        "currency": hold.currency.lower(),
        "capture_method": "automatic" if hold.sale else "manual",
        "status": _STATUS[hold.state],
        "cancellation_reason": _REASON.get(hold.state),
        "latest_charge": (charge if expand else charge["id"]) if hold.authorised_minor else None,
        "payment_method": hold.payment_method.partition("/")[2],
        "metadata": metadata,
        "livemode": False,
    }
    if hold.state is HoldState.PENDING:
        url = f"https://simprovider.invalid/confirm/{hold.hold}"
        made["next_action"] = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": None}}
    return made


def as_made(hold: Hold) -> Hold:
    """A hold as first answered, which is what Stripe replays for the same key, regardless of later changes."""
    state = HoldState.CAPTURED if hold.sale else HoldState.OPEN
    taken = hold.asked_minor if hold.sale else 0
    made = replace(hold, released_minor=0, refunded_minor=0, authorised_minor=hold.asked_minor, state=state)
    made.captured_minor, made.captures = taken, int(hold.sale)
    if hold.payment_method.endswith("_action"):
        made.state, made.authorised_minor, made.captured_minor, made.captures = HoldState.PENDING, 0, 0, 0
    return made


def refund(hold: Hold, key: str, amount_minor: int) -> Json:
    """A successful refund."""
    return {
        "id": refund_id(hold.hold, key),
        "object": "refund",
        "amount": amount_minor,
        "currency": hold.currency.lower(),
        "payment_intent": intent_id(hold.hold),
        "status": "succeeded",
        "metadata": {"order": hold.order, "group": hold.group, "key": key},
    }


def declined(request: pb.AuthoriseRequest, reason: str) -> StripeError:
    """The error of a declined card."""
    return StripeError(
        402,
        "card_error",
        f"Your card was declined: {reason}.",
        "card_declined",
        decline_code="generic_decline",
        payment_intent=_failed_intent(request),
    )


def _failed_intent(request: pb.AuthoriseRequest) -> Json:
    return {
        "id": "pi_" + hashlib.sha256(request.key.encode()).hexdigest()[:24],
        "object": "payment_intent",
        "amount": request.amount_minor,
        "currency": request.currency.lower(),
        "status": "requires_payment_method",
        "last_payment_error": {"type": "card_error", "code": "card_declined", "message": "Your card was declined."},
        "metadata": {"order": request.order, "group": request.group, "key": request.key},
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
        return "payment_intent.payment_failed", _failed_intent(request)
    capture_key = request.key if isinstance(request, pb.CaptureRequest) else ""
    match result.status:
        case pb.STATUS_AUTHORISED:
            kind = "payment_intent.succeeded" if hold.sale else "payment_intent.amount_capturable_updated"
        case pb.STATUS_ACTION_REQUIRED:
            kind = "payment_intent.requires_action"
        case pb.STATUS_CAPTURED:
            kind = "payment_intent.succeeded"
        case pb.STATUS_VOIDED | pb.STATUS_HOLD_GONE:
            kind = "payment_intent.canceled"
        case pb.STATUS_REFUNDED:
            return "refund.created", refund(hold, request.key, result.amount_minor)
        case _:
            return None
    return kind, {**intent(hold, capture_key), "created": change.at_ms // 1000}
