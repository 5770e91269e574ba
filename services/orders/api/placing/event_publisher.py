"""Appends order facts to the orders topic, the only topic that the orders service writes records to.

A retry writes the same bytes, except for the time and the caller's trace in the headers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from groupbuy.links.v1.links_pb2 import Invitation
from groupbuy.orders.v1.facts_pb2 import OrderCancelRequested, OrderFact, OrderPlaced
from groupbuy.orders.v1.orders_pb2 import CancelOrderRequest

from chassis.rpc.streaming.call_deadline import CallDeadline
from chassis.rpc.trace_context import TraceStarter
from eventlog.core.errors import BrokerUnavailable
from eventlog.producing.record_accumulator import Position, Record
from eventlog.records.envelope import HeaderTemplate
from services.orders.api.placing.parsed_order import ParsedOrder
from services.orders.api.ports import PublishesAll
from services.orders.domain.ids import OrderName
from shared_kernel.topics import ORDERS

SOURCE = "/groupbuy/orders"
#: Header for the sequencer: id of the campaign of an order that opens a group.
CAMPAIGN_HEADER = "groupbuy-campaign"
#: Seconds for the broker's acknowledgement, if the caller's deadline allows.
PUBLISH_S = 10.0


class OrderEventPublisher:
    """Builds order facts and appends them."""

    def __init__(
        self, publisher: PublishesAll, now_ms: Callable[[], int], trace_starter: TraceStarter | None = None
    ) -> None:
        self._publisher = publisher
        self._now_ms = now_ms
        self._trace_starter = trace_starter or TraceStarter()
        self._placed = HeaderTemplate(OrderPlaced.DESCRIPTOR.full_name, SOURCE)
        self._cancel_requested = HeaderTemplate(OrderCancelRequested.DESCRIPTOR.full_name, SOURCE)

    def placed(self, parsed: ParsedOrder, invitation: Invitation | None = None) -> Record:
        """The record of a placed order. `invitation` is that of its share link."""
        request, name = parsed.request, parsed.name
        fact = OrderFact(order=name.order, group=name.group, customer=request.customer)
        # Filled in inside the fact, because copying a message takes longer.
        placed = fact.placed
        placed.campaign = parsed.campaign
        placed.opens_group = parsed.opens
        placed.solo = request.solo
        placed.quantity = request.quantity
        placed.currency = request.currency
        placed.max_unit_price_minor = request.max_unit_price_minor
        placed.payment_method = request.payment_method
        placed.request_id = request.request_id
        placed.request_sha256 = parsed.digest
        if invitation is not None:
            placed.invitation.CopyFrom(invitation)
        ce_id = f"{name.order}:placed"
        headers = self._placed.headers(ce_id, self._now_ms(), str(name))
        if parsed.opens:
            headers.append((CAMPAIGN_HEADER, parsed.campaign.encode()))
        self._trace_starter.add_to(headers, name.order, SOURCE, ce_id)
        return Record(name.group, fact.SerializeToString(), headers)

    def cancel_requested(self, name: OrderName, customer: str, request: CancelOrderRequest) -> Record:
        """The record of a cancel request."""
        body = OrderCancelRequested(request_id=request.request_id, reason=request.reason)
        fact = OrderFact(order=name.order, group=name.group, customer=customer, cancel_requested=body)
        ce_id = f"{name.order}:cancel_requested:{request.request_id}"
        headers = self._cancel_requested.headers(ce_id, self._now_ms(), str(name))
        self._trace_starter.add_to(headers, name.order, SOURCE, ce_id)
        return Record(name.group, fact.SerializeToString(), headers)

    async def append(self, record: Record, deadline: CallDeadline) -> Position:
        """Appends a record and returns its position. Raises BrokerUnavailable."""
        return await self._publisher.publish(ORDERS.name, record, timeout_s=deadline.left_s(PUBLISH_S))

    async def append_all(self, records: Sequence[Record], deadline: CallDeadline) -> list[Position | BrokerUnavailable]:
        """Appends records together. Returns for each its position or the error."""
        return await self._publisher.publish_all(ORDERS.name, records, timeout_s=deadline.left_s(PUBLISH_S))
