"""Names and ids of orders. Ids are derived from the request, so a retry gets the same ids and is idempotent."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from groupbuy.orders.v1.orders_pb2 import PlaceOrderRequest

# The standard library's uuid5 takes ten times as long, and every order needs up to three.
from uuid_utils import UUID, uuid5

#: Namespace of all derived ids. With another namespace a retry would place a second order.
NAMESPACE = UUID("88e183ff-64a9-5fc7-b3b9-a637641e0c6e")


class OrderName(NamedTuple):
    """The ids in `groups/{group}/orders/{order}`."""

    group: str
    order: str

    def __str__(self) -> str:
        return f"groups/{self.group}/orders/{self.order}"


def group_id(customer: str, request_id: str) -> str:
    """Id of the group that a customer opens with a request."""
    return str(uuid5(uuid5(NAMESPACE, f"customer:{customer}"), request_id))


def order_id(group: str, customer: str, request_id: str) -> str:
    """Id of a customer's order in a group. `group` must be a UUID, see `is_id`."""
    return str(uuid5(UUID(group), f"{customer}/{request_id}"))


def is_id(text: str) -> bool:
    """Whether a text is a UUID in canonical form. Another spelling of the same UUID would be another key."""
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


def parse_order_name(name: str) -> OrderName:
    """`groups/{group}/orders/{order}` -> its ids. Raises ValueError."""
    match name.split("/"):
        case ["groups", group, "orders", order]:
            return OrderName(group, order)
    raise ValueError("not groups/{group}/orders/{order}")


def request_digest(request: PlaceOrderRequest) -> bytes:
    """SHA-256 of a request's payload, without `request_id` and `wait`."""
    payload = PlaceOrderRequest()
    payload.CopyFrom(request)
    payload.ClearField("request_id")
    payload.ClearField("wait")
    return sha256(payload.SerializeToString(deterministic=True)).digest()
