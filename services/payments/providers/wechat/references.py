"""Numbers of payments and refunds at WeChat Pay, which allows few characters, and the way back from a notification.

A number is derived from the call alone, so a retry names the same payment, and two calls have two numbers.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from typing import NamedTuple

from groupbuy.payments.v1.decisions_pb2 import ProviderCall

from services.payments.providers.port import idempotency_key

#: Longest out_trade_no and out_refund_no, in characters.
MAX_TRADE_NUMBER = 32
MAX_REFUND_NUMBER = 64
_LEGAL = re.compile(r"[0-9A-Za-z_\-|*@]+")
_REFUND = re.compile(r"([0-9A-Za-z_-]{22})([0-9A-Za-z_-]{22})\*(\d{1,9})(?:\*([0-9A-Za-z_-]{8}))?")
_ATTACH = re.compile(r"([^/]+)/([^/]+)/sale/(\d{1,9})(?:/([^/]*))?")
_HASH = re.compile(r"[0-9a-f]{64}")


class Reference(NamedTuple):
    """The group and the order of a payment, the attempt that made it, and the deployment; empty if it names none."""

    group: str
    order: str
    attempt: int
    #: Id of the deployment, or the mark of a refund number that stands for it.
    environment: str = ""


def trade_number(call: ProviderCall) -> str:
    """The out_trade_no of a sale: its idempotency key if that fits, otherwise a hash of it."""
    return _fitting(idempotency_key(call).replace(":", "*"), MAX_TRADE_NUMBER)


def attach(call: ProviderCall, group: str, environment: str = "") -> str:
    """The attachment of a sale, which WeChat Pay returns with the payment: group, order, attempt, deployment."""
    text = f"{group}/{call.order}/sale/{call.attempt}"
    return f"{text}/{environment}" if environment else text


def mark_of(environment: str) -> str:
    """Eight characters that stand for a deployment in a refund number, which has no room for its id."""
    digest = hashlib.sha256(environment.encode()).digest()[:6]
    return base64.urlsafe_b64encode(digest).decode() if environment else ""


def of_attach(text: str) -> Reference | None:
    """The reference in an attachment; None for one of another form."""
    found = _ATTACH.fullmatch(text)
    return Reference(found[1], found[2], int(found[3]), found[4] or "") if found else None


def refund_number(call: ProviderCall, group: str, environment: str = "") -> str:
    """The out_refund_no of a refund: group, order, attempt and the mark of the deployment.

    A refund's notification has no other field for them. Ids that are no UUIDs are hashed. A notification of such a
    refund names no order, and the refund is looked up.
    """
    try:
        number = f"{_short(group)}{_short(call.order)}*{call.attempt}"
        return f"{number}*{mark_of(environment)}" if environment else number
    except ValueError:
        return _fitting(idempotency_key(call).replace(":", "*"), MAX_REFUND_NUMBER)


def of_refund_number(text: str) -> Reference | None:
    """The reference in an out_refund_no; None for a hash, and for the number of a refund that a person made."""
    found = _REFUND.fullmatch(text)
    return Reference(_long(found[1]), _long(found[2]), int(found[3]), found[4] or "") if found else None


def is_hash(text: str) -> bool:
    """Whether an out_refund_no is a hash, which stands for ids that are no UUIDs."""
    return _HASH.fullmatch(text) is not None


def _fitting(text: str, longest: int) -> str:
    # WeChat Pay requires at least six characters.
    if 6 <= len(text) <= longest and _LEGAL.fullmatch(text):
        return text
    return hashlib.sha256(text.encode()).hexdigest()[: min(longest, 64)]


def _short(text: str) -> str:
    made = uuid.UUID(text)
    if str(made) != text:
        raise ValueError(f"{text} is not the canonical form of a UUID")
    return base64.urlsafe_b64encode(made.bytes).decode().rstrip("=")


def _long(text: str) -> str:
    return str(uuid.UUID(bytes=base64.urlsafe_b64decode(text + "==")))
