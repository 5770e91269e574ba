"""Appends what shoppers did to the orders topic: the only thing that the orders service ever writes.

Must never write what a retry would write differently, apart from the time in its header.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from groupbuy.links.v1.links_pb2 import Invitation
from groupbuy.orders.v1.facts_pb2 import OrderCancelRequested, OrderFact, OrderPlaced
from groupbuy.orders.v1.orders_pb2 import CancelOrderRequest

from chassis.rpc.call_deadline import CallDeadline
from eventlog.core.errors import BrokerUnavailable
from eventlog.producing.record_accumulator import Position, Record
from eventlog.records.envelope import Stamp
from services.orders.api.parsed_order import ParsedOrder
from services.orders.api.ports import PublishesAll
from services.orders.domain.ids import OrderName
from shared_kernel.topics import ORDERS

SOURCE = "/groupbuy/orders"
#: Header with the campaign that an order opens a group of, for the sequencer.
CAMPAIGN_HEADER = "groupbuy-campaign"
#: Seconds for the broker to acknowledge, where the caller's deadline leaves them.
PUBLISH_S = 10.0


class OrderEventPublisher:
    """Makes order facts, and appends them."""

    def __init__(self, publisher: PublishesAll, now_ms: Callable[[], int]) -> None:
        self._publisher = publisher
        self._now_ms = now_ms
        self._placed = Stamp(OrderPlaced.DESCRIPTOR.full_name, SOURCE)
        self._cancel_requested = Stamp(OrderCancelRequested.DESCRIPTOR.full_name, SOURCE)

    def placed(self, asked: ParsedOrder, invitation: Invitation | None = None) -> Record:
        """The fact that a request states; `invitation` is what its share link said."""
        request, name = asked.request, asked.name
        fact = OrderFact(order=name.order, group=name.group, customer=request.customer)
        # Filled in where it is: to make it apart and have it copied takes longer.
        placed = fact.placed
        placed.campaign = asked.campaign
        placed.opens_group = asked.opens
        placed.solo = request.solo
        placed.quantity = request.quantity
        placed.currency = request.currency
        placed.max_unit_price_minor = request.max_unit_price_minor
        placed.payment_method = request.payment_method
        placed.request_id = request.request_id
        placed.request_sha256 = asked.digest
        if invitation is not None:
            placed.invitation.CopyFrom(invitation)
        headers = self._placed.headers(f"{name.order}:placed", self._now_ms(), str(name))
        if asked.opens:
            headers.append((CAMPAIGN_HEADER, asked.campaign.encode()))
        return Record(name.group, fact.SerializeToString(), headers)

    def cancel_requested(self, name: OrderName, customer: str, request: CancelOrderRequest) -> Record:
        """The shopper's wish to leave."""
        wish = OrderCancelRequested(request_id=request.request_id, reason=request.reason)
        fact = OrderFact(order=name.order, group=name.group, customer=customer, cancel_requested=wish)
        ce_id = f"{name.order}:cancel_requested:{request.request_id}"
        headers = self._cancel_requested.headers(ce_id, self._now_ms(), str(name))
        return Record(name.group, fact.SerializeToString(), headers)

    async def append(self, fact: Record, deadline: CallDeadline) -> Position:
        """Appends a fact and returns where it stands. Raises BrokerUnavailable."""
        return await self._publisher.publish(ORDERS.name, fact, timeout_s=deadline.left_s(PUBLISH_S))

    async def append_all(self, facts: Sequence[Record], deadline: CallDeadline) -> list[Position | BrokerUnavailable]:
        """Appends facts together, and says of each where it stands or that it was not acknowledged."""
        return await self._publisher.publish_all(ORDERS.name, facts, timeout_s=deadline.left_s(PUBLISH_S))
