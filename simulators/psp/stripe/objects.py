"""Stripe's objects, made of what the books say: payment intents, refunds, events, errors.

As much of them as a merchant who holds, captures, cancels and refunds reads. Metadata is rebuilt from the books: order,
group, and the keys of the calls. Must never say anything that the books don't.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, TypeAlias

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.outbox import Change
from simulators.psp.rules import Hold, State

Json: TypeAlias = dict[str, Any]

#: What stands before the payment method of holds that came by this wire.
WIRE = "stripe"

_STATUS = {
    State.PENDING: "requires_action",
    State.OPEN: "requires_capture",
    State.CAPTURED: "succeeded",
    State.VOIDED: "canceled",
    State.LAPSED: "canceled",
}
_REASON = {State.VOIDED: "requested_by_customer", State.LAPSED: "automatic"}


class StripeError(Exception):
    """An error of Stripe's: HTTP status and the error object."""

    def __init__(self, status: int, kind: str, message: str, code: str = "", **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"error": {"type": kind, "message": message, **({"code": code} if code else {}), **more}}


def intent_id(hold: str) -> str:
    """The payment intent of a hold."""
    return "pi_" + hold.removeprefix("hold_")


def hold_of(intent: str) -> str:
    """The hold of a payment intent."""
    return "hold_" + intent.removeprefix("pi_")


def refund_id(hold: str, key: str) -> str:
    """A refund's id, from which its hold can be read."""
    return f"re_{hold.removeprefix('hold_')}{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def hold_of_refund(refund: str) -> str:
    """The hold that a refund is of."""
    return "hold_" + refund.removeprefix("re_")[:24]


def intent(hold: Hold, capture_key: str = "", *, expand: bool = False) -> Json:
    """A payment intent; `expand` puts the whole charge in it."""
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
    if hold.state is State.PENDING:
        url = f"https://simprovider.invalid/confirm/{hold.hold}"
        made["next_action"] = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": None}}
    return made


def as_made(hold: Hold) -> Hold:
    """A hold as it was just after it was asked for: what the same key is answered with, whatever happened since."""
    state = State.CAPTURED if hold.sale else State.OPEN
    taken = hold.asked_minor if hold.sale else 0
    made = replace(hold, released_minor=0, refunded_minor=0, authorised_minor=hold.asked_minor, state=state)
    made.captured_minor, made.captures = taken, int(hold.sale)
    if hold.payment_method.endswith("_action"):
        made.state, made.authorised_minor, made.captured_minor, made.captures = State.PENDING, 0, 0, 0
    return made


def refund(hold: Hold, key: str, amount_minor: int) -> Json:
    """A refund that went through."""
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
    """A card that was refused when it was to be charged or held."""
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
    """The event that tells of a change; None for one that Stripe doesn't tell of."""
    told = _told(change)
    if told is None:
        return None
    kind, what = told
    name = hashlib.sha256(f"{kind}/{change.result.key}/{change.result.status}".encode()).hexdigest()[:24]
    return {
        "id": f"evt_{name}",
        "object": "event",
        "api_version": "2025-01-01",
        "created": change.at_ms // 1000,
        "type": kind,
        "data": {"object": what},
        "livemode": False,
    }


def _told(change: Change) -> tuple[str, Json] | None:
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
