"""Names and ids of payments and refunds. Each is derived from the request alone, so a retry has no further effect."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple
from uuid import UUID, uuid5

from groupbuy.payments.v1.payments_pb2 import RefundPaymentRequest

from services.payments.api import errors
from services.payments.domain.addressing import is_id


class PaymentName(NamedTuple):
    """The ids in `groups/{group}/orders/{order}/payment`."""

    group: str
    order: str

    def __str__(self) -> str:
        return f"groups/{self.group}/orders/{self.order}/payment"


def parse_payment(name: str) -> PaymentName:
    """Parses `groups/{group}/orders/{order}/payment`. Raises ApiError INVALID_FIELDS."""
    match name.split("/"):
        case ["groups", group, "orders", order, "payment"]:
            return PaymentName(group, order)
    raise errors.not_a_payment()


def refund_id(order: str, request_id: str) -> str:
    """Id of the refund of a request. Raises ApiError for an order that is not a UUID."""
    if not is_id(order):
        raise errors.not_a_payment()
    return str(uuid5(UUID(order), request_id.lower()))


def request_digest(request: RefundPaymentRequest) -> bytes:
    """SHA-256 of a request without its id."""
    content = RefundPaymentRequest(
        name=request.name, amount_minor=request.amount_minor, currency=request.currency, reason=request.reason
    )
    return sha256(content.SerializeToString(deterministic=True)).digest()
