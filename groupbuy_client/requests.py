"""Builds request messages from plain arguments, for both clients. Arguments use resource names and minor units.

A request without a request id gets a new one (UUIDv7, which sorts by time) and keeps it over all retries. The services
validate the requests; this module does not.
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
    #: groups/{group} to join; without it the order opens a group.
    group: str
    #: Buys without a group, at the solo price.
    solo: bool
    #: Number of pieces; defaults to 1.
    quantity: int
    #: ISO 4217 code.
    currency: Required[str]
    #: Highest price of one piece that the customer accepts, in minor units.
    max_unit_price_minor: Required[int]
    #: Opaque token of the payment method.
    payment_method: Required[str]
    #: Idempotency key of the order; defaults to a new one.
    request_id: str
    #: State that the response waits for; by default until the seat is decided.
    wait: orders_pb2.Wait.ValueType
    #: Share token of the link that the customer followed.
    share_link: str


class CreateCampaign(TypedDict, total=False):
    """Arguments of create_campaign; see groupbuy.groups.v1.Campaign."""

    #: Id of the new campaign; derived from the request id by default.
    campaign_id: str
    #: Opaque id of the product.
    product: Required[str]
    #: ISO 4217 code of all prices.
    currency: Required[str]
    #: Price of one piece without a group, in minor units.
    solo_price_minor: Required[int]
    #: Price tiers: pairs of members and price of one piece in minor units.
    tiers: Required[Sequence[tuple[int, int]]]
    #: Number of seats of a group.
    capacity: Required[int]
    #: Time that a group has to form.
    window: Required[timedelta]
    #: Time that a seat is held for its payment.
    hold_window: Required[timedelta]
    close_policy: campaigns_pb2.ClosePolicy.ValueType
    waitlist: bool
    #: Members from which a group that is short at its deadline completes at the first tier (virtual completion).
    house_fill_members: int
    leader_discount_minor: int
    seats_per_customer: int
    max_quantity: int
    #: The price of the others when captures of a completed group fail; KEEP_PRICE by default.
    failed_capture_policy: campaigns_pb2.FailedCapturePolicy.ValueType
    request_id: str


class CreateShareLink(TypedDict, total=False):
    """Arguments of create_share_link; see groupbuy.groups.v1.CreateShareLinkRequest."""

    #: groups/{group} or campaigns/{campaign}
    target: Required[str]
    #: Opaque id of the customer who shares the link.
    inviter: Required[str]
    channel: Required[ShareChannel.ValueType]
    #: Share token of the link that the inviter followed.
    parent_link: str
    ttl: timedelta
    qr_format: links_pb2.QrFormat.ValueType


def fresh_id() -> str:
    """Returns a new request id."""
    return str(uuid_utils.uuid7())


def place_order(fields: PlaceOrder) -> orders_pb2.PlaceOrderRequest:
    """Builds the request for one order."""
    request = orders_pb2.PlaceOrderRequest(**fields)
    if "quantity" not in fields:
        request.quantity = 1
    return with_id(request)


def place_orders(orders: Iterable[PlaceOrder | orders_pb2.PlaceOrderRequest]) -> orders_pb2.BatchPlaceOrdersRequest:
    """Builds the request for several orders."""
    requests = (
        with_id(order) if isinstance(order, orders_pb2.PlaceOrderRequest) else place_order(order) for order in orders
    )
    return orders_pb2.BatchPlaceOrdersRequest(requests=requests)


def with_id(request: orders_pb2.PlaceOrderRequest) -> orders_pb2.PlaceOrderRequest:
    """Returns the request if it has a request id, otherwise a copy with a new one."""
    if request.request_id:
        return request
    copy = orders_pb2.PlaceOrderRequest()
    copy.CopyFrom(request)
    copy.request_id = fresh_id()
    return copy


def cancel_order(name: str, reason: str, request_id: str) -> orders_pb2.CancelOrderRequest:
    """Builds the request to cancel an order."""
    return orders_pb2.CancelOrderRequest(name=name, reason=reason, request_id=request_id or fresh_id())


def cancel_group(name: str, reason: str, request_id: str) -> groups_pb2.CancelGroupRequest:
    """Builds the request to cancel a group."""
    return groups_pb2.CancelGroupRequest(name=name, reason=reason, request_id=request_id or fresh_id())


def refund_payment(
    name: str, amount_minor: int, currency: str, reason: str, request_id: str
) -> payments_pb2.RefundPaymentRequest:
    """Builds the request to refund a payment."""
    return payments_pb2.RefundPaymentRequest(
        name=name, amount_minor=amount_minor, currency=currency, reason=reason, request_id=request_id or fresh_id()
    )


def create_campaign(fields: CreateCampaign) -> campaigns_pb2.CreateCampaignRequest:
    """Builds the request to create a campaign."""
    terms: dict[str, object] = dict(fields)
    request_id, campaign_id = str(terms.pop("request_id", "")), str(terms.pop("campaign_id", ""))
    terms["tiers"] = [campaigns_pb2.Tier(members=members, unit_price_minor=price) for members, price in fields["tiers"]]
    terms["window"], terms["hold_window"] = duration(fields["window"]), duration(fields["hold_window"])
    campaign = campaigns_pb2.Campaign(**terms)  # type: ignore[arg-type] # fields by name
    return campaigns_pb2.CreateCampaignRequest(
        campaign=campaign, campaign_id=campaign_id, request_id=request_id or fresh_id()
    )


def update_campaign(
    campaign: campaigns_pb2.Campaign, update_mask: Iterable[str]
) -> campaigns_pb2.UpdateCampaignRequest:
    """Builds the request to update a campaign. An etag of the campaign makes the update conditional."""
    return campaigns_pb2.UpdateCampaignRequest(campaign=campaign, update_mask=FieldMask(paths=update_mask))


def create_share_link(fields: CreateShareLink) -> links_pb2.CreateShareLinkRequest:
    """Builds the request to create a share link."""
    link: dict[str, object] = dict(fields)
    if "ttl" in fields:
        link["ttl"] = duration(fields["ttl"])
    return links_pb2.CreateShareLinkRequest(**link)  # type: ignore[arg-type] # fields by name


def duration(length: timedelta) -> Duration:
    """Converts to the message of the contract."""
    message = Duration()
    message.FromTimedelta(length)
    return message
