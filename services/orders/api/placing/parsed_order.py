"""Parses a valid PlaceOrder request: the ids of its order and the digest that identifies a retry."""

from __future__ import annotations

from typing import NamedTuple

from groupbuy.orders.v1.orders_pb2 import PlaceOrderRequest

from chassis.rpc.validation import invalid_field
from services.orders.domain.ids import (
    OrderName,
    campaign_of,
    group_id,
    group_of,
    is_id,
    order_id,
    request_digest,
)


class ParsedOrder(NamedTuple):
    """A request with the ids of its order."""

    request: PlaceOrderRequest
    name: OrderName
    #: Id of the campaign.
    campaign: str
    #: Whether the order opens a group instead of joining one.
    opens: bool
    #: SHA-256 of the request's payload.
    digest: bytes


def parse_order(request: PlaceOrderRequest) -> ParsedOrder:
    """Derives the ids of a request's order from customer, request id and group. Raises ApiError INVALID_FIELDS."""
    customer, request_id, joined = request.customer, request.request_id, request.group
    if joined:
        group = group_of(joined)
        if not is_id(group):
            raise invalid_field("group", "is not the name of a group")
    else:
        group = group_id(customer, request_id)
    name = OrderName(group, order_id(group, customer, request_id))
    return ParsedOrder(request, name, campaign_of(request.campaign), not joined, request_digest(request))
