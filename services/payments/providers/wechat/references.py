"""Our names for WeChat Pay's eyes: its numbers are short and of few signs, and a notification must find its way back.

A number follows from the call alone, so a repeat names the same payment. Must never give two calls one number.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from typing import NamedTuple

from groupbuy.payments.v1.decisions_pb2 import ProviderCall

from services.payments.providers.port import idempotency_key

#: Longest out_trade_no, and longest out_refund_no.
TRADE_SIGNS = 32
REFUND_SIGNS = 64
_LEGAL = re.compile(r"[0-9A-Za-z_\-|*@]+")
_REFUND = re.compile(r"([0-9A-Za-z_-]{22})([0-9A-Za-z_-]{22})\*(\d{1,9})")
_ATTACH = re.compile(r"([^/]+)/([^/]+)/sale/(\d{1,9})")


class Ref(NamedTuple):
    """Whose payment it is, and by which attempt."""

    group: str
    order: str
    attempt: int


def trade_number(call: ProviderCall) -> str:
    """The out_trade_no of a sale: its key where that fits, else a hash of it."""
    return _fitting(idempotency_key(call).replace(":", "*"), TRADE_SIGNS)


def attach(call: ProviderCall, group: str) -> str:
    """What WeChat Pay gives back with the payment: whose it is."""
    return f"{group}/{call.order}/sale/{call.attempt}"


def of_attach(text: str) -> Ref | None:
    """Whose payment it is; None for one that is none of ours."""
    found = _ATTACH.fullmatch(text)
    return Ref(found[1], found[2], int(found[3])) if found else None


def refund_number(call: ProviderCall, group: str) -> str:
    """The out_refund_no of a refund: group, order and attempt, as a refund's notification has no other place for them.

    Ids that are no UUIDs are hashed instead; then no notification can say whose it is, and the refund is looked up.
    """
    try:
        return f"{_short(group)}{_short(call.order)}*{call.attempt}"
    except ValueError:
        return _fitting(idempotency_key(call).replace(":", "*"), REFUND_SIGNS)


def of_refund_number(text: str) -> Ref | None:
    """Whose refund it is; None for one that doesn't say."""
    found = _REFUND.fullmatch(text)
    return Ref(_long(found[1]), _long(found[2]), int(found[3])) if found else None


def _fitting(text: str, signs: int) -> str:
    # Six signs is the least that WeChat Pay takes.
    if 6 <= len(text) <= signs and _LEGAL.fullmatch(text):
        return text
    return hashlib.sha256(text.encode()).hexdigest()[: min(signs, 64)]


def _short(text: str) -> str:
    made = uuid.UUID(text)
    if str(made) != text:
        raise ValueError(f"{text} is not the usual text of a UUID")
    return base64.urlsafe_b64encode(made.bytes).decode().rstrip("=")


def _long(text: str) -> str:
    return str(uuid.UUID(bytes=base64.urlsafe_b64decode(text + "==")))
