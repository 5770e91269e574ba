"""Requests from plain arguments, for both clients: resource names and minor units in, messages out.

Whoever gives no request id is made one (UUIDv7, so that they sort by time); the request keeps it over all retries. Must
never check what the service checks: there is one place for each rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Required, TypedDict

import uuid_utils
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from groupbuy.groups.v1 import campaigns_pb2, groups_pb2, links_pb2
from groupbuy.links.v1.links_pb2 import ShareChannel
from groupbuy.orders.v1 import orders_pb2
from groupbuy.payments.v1 import payments_pb2


class PlaceOrder(TypedDict, total=False):
    """Arguments of place_order; see groupbuy.orders.v1.PlaceOrderRequest."""

    #: Opaque id of the customer.
    customer: Required[str]
    #: campaigns/{campaign}
    campaign: Required[str]
    #: groups/{group} to join; left out: opens a group.
    group: str
    #: Buys alone, at the solo price.
    solo: bool
    #: Pieces; 1 where left out.
    quantity: int
    #: ISO 4217 code.
    currency: Required[str]
    #: The highest price of one piece that the shopper agrees to, in minor units.
    max_unit_price_minor: Required[int]
    #: Opaque token of the payment method.
    payment_method: Required[str]
    #: Makes a retry of the same order the same order; made where left out.
    request_id: str
    #: How long to wait before answering; until the seat is decided where left out.
    wait: orders_pb2.Wait.ValueType
    #: Token of the share link that the shopper came by.
    share_link: str


class CreateCampaign(TypedDict, total=False):
    """Arguments of create_campaign; see groupbuy.groups.v1.Campaign."""

    #: Id wanted; made of the request id where left out.
    campaign_id: str
    #: Opaque id of the product.
    product: Required[str]
    #: ISO 4217 code of all its prices.
    currency: Required[str]
    #: Price of one piece bought alone, in minor units.
    solo_price_minor: Required[int]
    #: The ladder: pairs of members and the price of one piece in minor units.
    tiers: Required[Sequence[tuple[int, int]]]
    #: Seats of one group.
    capacity: Required[int]
    #: How long a group may form.
    window: Required[timedelta]
    #: How long a seat waits for its payment.
    hold_window: Required[timedelta]
    close_policy: campaigns_pb2.ClosePolicy.ValueType
    waitlist: bool
    house_fill_members: int
    leader_discount_minor: int
    seats_per_customer: int
    max_quantity: int
    request_id: str


class CreateShareLink(TypedDict, total=False):
    """Arguments of create_share_link; see groupbuy.groups.v1.CreateShareLinkRequest."""

    #: groups/{group} or campaigns/{campaign}
    target: Required[str]
    #: Opaque id of the customer who shares it.
    inviter: Required[str]
    channel: Required[ShareChannel.ValueType]
    #: Token of the link that the inviter came by.
    parent_link: str
    ttl: timedelta
    qr_format: links_pb2.QrFormat.ValueType


def fresh_id() -> str:
    """A request id."""
    return str(uuid_utils.uuid7())


def place_order(fields: PlaceOrder) -> orders_pb2.PlaceOrderRequest:
    """One order."""
    made = orders_pb2.PlaceOrderRequest(**fields)
    if "quantity" not in fields:
        made.quantity = 1
    return with_id(made)


def place_orders(orders: Iterable[PlaceOrder | orders_pb2.PlaceOrderRequest]) -> orders_pb2.BatchPlaceOrdersRequest:
    """Several orders."""
    made = (with_id(one) if isinstance(one, orders_pb2.PlaceOrderRequest) else place_order(one) for one in orders)
    return orders_pb2.BatchPlaceOrdersRequest(requests=made)


def with_id(request: orders_pb2.PlaceOrderRequest) -> orders_pb2.PlaceOrderRequest:
    """The request itself where it has an id, else a copy that has one."""
    if request.request_id:
        return request
    made = orders_pb2.PlaceOrderRequest()
    made.CopyFrom(request)
    made.request_id = fresh_id()
    return made


def cancel_order(name: str, reason: str, request_id: str) -> orders_pb2.CancelOrderRequest:
    """A shopper's wish to leave."""
    return orders_pb2.CancelOrderRequest(name=name, reason=reason, request_id=request_id or fresh_id())


def cancel_group(name: str, reason: str, request_id: str) -> groups_pb2.CancelGroupRequest:
    """A wish to end a group."""
    return groups_pb2.CancelGroupRequest(name=name, reason=reason, request_id=request_id or fresh_id())


def refund_payment(
    name: str, amount_minor: int, currency: str, reason: str, request_id: str
) -> payments_pb2.RefundPaymentRequest:
    """A wish to give money back."""
    return payments_pb2.RefundPaymentRequest(
        name=name, amount_minor=amount_minor, currency=currency, reason=reason, request_id=request_id or fresh_id()
    )


def create_campaign(fields: CreateCampaign) -> campaigns_pb2.CreateCampaignRequest:
    """An offer."""
    left: dict[str, object] = dict(fields)
    request_id, campaign_id = str(left.pop("request_id", "")), str(left.pop("campaign_id", ""))
    left["tiers"] = [campaigns_pb2.Tier(members=members, unit_price_minor=price) for members, price in fields["tiers"]]
    left["window"], left["hold_window"] = duration(fields["window"]), duration(fields["hold_window"])
    campaign = campaigns_pb2.Campaign(**left)  # type: ignore[arg-type] # fields by name
    return campaigns_pb2.CreateCampaignRequest(
        campaign=campaign, campaign_id=campaign_id, request_id=request_id or fresh_id()
    )


def update_campaign(
    campaign: campaigns_pb2.Campaign, update_mask: Iterable[str]
) -> campaigns_pb2.UpdateCampaignRequest:
    """An edit; with the campaign's etag only where nobody else's came between."""
    return campaigns_pb2.UpdateCampaignRequest(campaign=campaign, update_mask=FieldMask(paths=update_mask))


def create_share_link(fields: CreateShareLink) -> links_pb2.CreateShareLinkRequest:
    """A link."""
    left: dict[str, object] = dict(fields)
    if "ttl" in fields:
        left["ttl"] = duration(fields["ttl"])
    return links_pb2.CreateShareLinkRequest(**left)  # type: ignore[arg-type] # fields by name


def duration(length: timedelta) -> Duration:
    """As the contract has it."""
    made = Duration()
    made.FromTimedelta(length)
    return made
