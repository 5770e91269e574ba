"""Names and ids of payments and refunds, derived from the request alone, so that a retry is a no-op."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple
from uuid import UUID, uuid5

from groupbuy.payments.v1.payments_pb2 import RefundPaymentRequest

from services.payments.api import refusals

#: Namespace of ids of payments that nobody of ours asked for. Changing it would make every repeat a new one.
NAMESPACE = UUID("5f0c7f0e-6f0b-5f0a-9d58-3f1f8f6f5b7d")


class PaymentName(NamedTuple):
    """What `groups/{group}/orders/{order}/payment` says."""

    group: str
    order: str

    def __str__(self) -> str:
        return f"groups/{self.group}/orders/{self.order}/payment"


def parse_payment(name: str) -> PaymentName:
    """`groups/{group}/orders/{order}/payment` -> its ids. Raises ApiError INVALID_FIELDS."""
    match name.split("/"):
        case ["groups", group, "orders", order, "payment"]:
            return PaymentName(group, order)
    raise refusals.not_a_payment()


def is_id(text: str) -> bool:
    """Whether a text is a UUID as we write them: other spellings of the same number would be other keys."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def refund_id(order: str, request_id: str) -> str:
    """Id of the refund that a request stands for. Raises ApiError for an order that is no UUID."""
    if not is_id(order):
        raise refusals.not_a_payment()
    return str(uuid5(UUID(order), request_id.lower()))


def request_digest(request: RefundPaymentRequest) -> bytes:
    """SHA-256 of what a request asks for; its own id is no part of that."""
    asked = RefundPaymentRequest(
        name=request.name, amount_minor=request.amount_minor, currency=request.currency, reason=request.reason
    )
    return sha256(asked.SerializeToString(deterministic=True)).digest()


def of_nobody(provider: str, *parts: str) -> str:
    """An id for what a provider speaks of and we never named: the same for every repeat."""
    return str(uuid5(NAMESPACE, "/".join((provider, *parts))))
