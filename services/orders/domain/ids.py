"""Names and ids of orders, derived from the request alone, so that a retry is a no-op. Must never draw a fresh id."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from groupbuy.orders.v1.orders_pb2 import PlaceOrderRequest

# The standard library's takes ten times as long, and every order needs up to three.
from uuid_utils import UUID, uuid5

#: Namespace of all derived ids. Changing it would make every retry a new order.
NAMESPACE = UUID("88e183ff-64a9-5fc7-b3b9-a637641e0c6e")


class OrderName(NamedTuple):
    """What `groups/{group}/orders/{order}` says."""

    group: str
    order: str

    def __str__(self) -> str:
        return f"groups/{self.group}/orders/{self.order}"


def group_id(customer: str, request_id: str) -> str:
    """Id of the group that a customer opens by this request."""
    return str(uuid5(uuid5(NAMESPACE, f"customer:{customer}"), request_id))


def order_id(group: str, customer: str, request_id: str) -> str:
    """Id of a customer's order in a group. `group` must be a UUID, see `is_id`."""
    return str(uuid5(UUID(group), f"{customer}/{request_id}"))


def is_id(text: str) -> bool:
    """Whether a text is a UUID as we write them: other spellings of the same number would be other keys."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def group_of(name: str) -> str:
    """`groups/{group}` -> group."""
    return name.removeprefix("groups/")


def campaign_of(name: str) -> str:
    """`campaigns/{campaign}` -> campaign."""
    return name.removeprefix("campaigns/")


def parse_order(name: str) -> OrderName:
    """`groups/{group}/orders/{order}` -> its ids. Raises ValueError."""
    match name.split("/"):
        case ["groups", group, "orders", order]:
            return OrderName(group, order)
    raise ValueError("not groups/{group}/orders/{order}")


def request_digest(request: PlaceOrderRequest) -> bytes:
    """SHA-256 of what a request asks for. How long the caller waits, and the request's own id, are no part of that."""
    asked = PlaceOrderRequest()
    asked.CopyFrom(request)
    asked.ClearField("request_id")
    asked.ClearField("wait")
    return sha256(asked.SerializeToString(deterministic=True)).digest()
