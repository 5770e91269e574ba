"""Stripe's objects built from accounts: payment intents, charges, refunds, errors.

They have the fields that a merchant needs to hold, capture, cancel and refund. Metadata is the stored one or, where a
call had only the order, the group and its key, rebuilt from the account book.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.details import NO_DETAILS, Details, by_hand, named_key
from simulators.psp.accounts.holds import Hold, HoldState

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
#: Status and failure reason of a refund that was undone.
UNDONE: Mapping[pb.Status.ValueType, tuple[str, str]] = {
    pb.STATUS_REFUND_FAILED: ("failed", "expired_or_canceled_card"),
    pb.STATUS_REFUND_REVERSED: ("canceled", "merchant_request"),
}


class StripeError(Exception):
    """An error answer of Stripe's: HTTP status and error object. `executed`: the call had begun to take effect."""

    def __init__(
        self, status: int, kind: str, message: str, code: str = "", *, executed: bool = False, **more: Any
    ) -> None:
        super().__init__(message)
        self.status = status
        self.executed = executed
        self.body: Json = {"error": {"type": kind, "message": message, **({"code": code} if code else {}), **more}}


def owns(method: str) -> bool:
    """Whether a payment method is of a hold made over this wire."""
    return method.startswith(f"{WIRE}/")


def intent_id(hold: str) -> str:
    """Id of a hold's payment intent."""
    return "pi_" + hold.removeprefix("hold_")


def charge_id(hold: str) -> str:
    """Id of a hold's charge."""
    return "ch_" + hold.removeprefix("hold_")


def hold_of(intent: str) -> str:
    """Reference of the hold of a payment intent or a charge."""
    return "hold_" + intent.removeprefix("pi_").removeprefix("ch_")


def refund_id(hold: str, key: str) -> str:
    """Id of a refund, which contains its hold."""
    return f"re_{hold.removeprefix('hold_')}{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def hold_of_refund(refund: str) -> str:
    """Reference of a refund's hold."""
    return "hold_" + refund.removeprefix("re_")[:24]


def hold_metadata(hold: Hold, stored: Mapping[str, str] | None) -> dict[str, str]:
    """Metadata of an authorisation; `stored` None: the standard one."""
    if stored is not None:
        return dict(stored)
    return {"order": hold.order, "group": hold.group, "key": named_key(hold.key)}


def intent(
    hold: Hold,
    capture_key: str = "",
    *,
    expand: bool = False,
    details: Details = NO_DETAILS,
    capture_details: Details = NO_DETAILS,
) -> Json:
    """A payment intent; `expand` includes the whole charge."""
    metadata = hold_metadata(hold, details.metadata)
    if capture_details.metadata is not None:
        metadata |= capture_details.metadata
    elif capture_key and not by_hand(capture_key):
        metadata["capture_key"] = named_key(capture_key)
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
        "latest_charge": (charge(hold, metadata, details.at_ms) if expand else charge_id(hold.hold))
        if hold.authorised_minor
        else None,
        "payment_method": hold.payment_method.partition("/")[2],
        "metadata": metadata,
        "livemode": False,
    }
    if details.customer:
        made["customer"] = details.customer
    if details.at_ms:
        made["created"] = details.at_ms // 1000
    if hold.state is HoldState.PENDING:
        url = f"https://simprovider.invalid/confirm/{hold.hold}"
        made["next_action"] = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": None}}
    return made


def charge(hold: Hold, metadata: Mapping[str, str], made_ms: int, *, disputed: bool = False) -> Json:
    """The charge of a payment intent. It has the intent's metadata."""
    return {
        "id": charge_id(hold.hold),
        "object": "charge",
        "amount": hold.asked_minor,
        "amount_captured": hold.captured_minor,
        "amount_refunded": hold.refunded_minor,
        "captured": bool(hold.captured_minor),
        "created": made_ms // 1000,
        "currency": hold.currency.lower(),
        "disputed": disputed,
        "metadata": dict(metadata),
        "payment_intent": intent_id(hold.hold),
        "payment_method_details": {"type": "card", "card": {"capture_before": -(-hold.until_ms // 1000)}},
        "refunded": bool(hold.captured_minor) and hold.refunded_minor == hold.captured_minor,
    }


def as_made(hold: Hold) -> Hold:
    """A hold as first answered, which is what Stripe replays for the same key, regardless of later changes."""
    state = HoldState.CAPTURED if hold.sale else HoldState.OPEN
    taken = hold.asked_minor if hold.sale else 0
    made = replace(hold, released_minor=0, refunded_minor=0, authorised_minor=hold.asked_minor, state=state)
    made.captured_minor, made.captures = taken, int(hold.sale)
    if hold.payment_method.endswith("_action"):
        made.state, made.authorised_minor, made.captured_minor, made.captures = HoldState.PENDING, 0, 0, 0
    return made


def refund(
    hold: Hold,
    key: str,
    amount_minor: int,
    details: Details = NO_DETAILS,
    undone: pb.Status.ValueType | None = None,
) -> Json:
    """A refund: it has succeeded, unless it was undone."""
    status, failure = UNDONE[undone] if undone is not None else ("succeeded", "")
    metadata = details.metadata
    if metadata is None:
        metadata = {} if by_hand(key) else {"order": hold.order, "group": hold.group, "key": named_key(key)}
    made: Json = {
        "id": refund_id(hold.hold, key),
        "object": "refund",
        "amount": amount_minor,
        "charge": charge_id(hold.hold),
        "currency": hold.currency.lower(),
        "payment_intent": intent_id(hold.hold),
        "status": status,
        "metadata": metadata,
    }
    if failure:
        made["failure_reason"] = failure
    if details.at_ms:
        made["created"] = details.at_ms // 1000
    return made


def declined(request: pb.AuthoriseRequest, reason: str) -> StripeError:
    """The error of a declined card."""
    return StripeError(
        402,
        "card_error",
        f"Your card was declined: {reason}.",
        "card_declined",
        executed=True,
        decline_code="generic_decline",
        payment_intent=failed_intent(request),
    )


def failed_intent(request: pb.AuthoriseRequest) -> Json:
    """The payment intent of a declined card."""
    standard = {"order": request.order, "group": request.group, "key": named_key(request.key)}
    return {
        "id": "pi_" + hashlib.sha256(request.key.encode()).hexdigest()[:24],
        "object": "payment_intent",
        "amount": request.amount_minor,
        "currency": request.currency.lower(),
        "status": "requires_payment_method",
        "last_payment_error": {"type": "card_error", "code": "card_declined", "message": "Your card was declined."},
        "metadata": {} if request.without_metadata else dict(request.metadata) or standard,
    }
