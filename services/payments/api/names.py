"""Names and ids of payments and refunds, derived from the request alone, so that a retry is a no-op."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple
from uuid import UUID, uuid5

from groupbuy.payments.v1.payments_pb2 import RefundPaymentRequest

from services.payments.api import errors as refusals
from services.payments.domain.ids import is_id, of_nobody

__all__ = ["PaymentName", "is_id", "of_nobody", "parse_payment", "refund_id", "request_digest"]


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
