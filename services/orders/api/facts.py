"""Appends what shoppers did to the orders topic: the only thing that the orders service ever writes.

Must never write what a retry would write differently, apart from the time in its header.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from groupbuy.links.v1.links_pb2 import Invitation
from groupbuy.orders.v1.facts_pb2 import OrderCancelRequested, OrderFact, OrderPlaced
from groupbuy.orders.v1.orders_pb2 import CancelOrderRequest, PlaceOrderRequest

from chassis.publishing import Record
from chassis.topics import ORDERS
from chassis.waiting import Patience
from eventlog.envelope import headers
from eventlog.errors import BrokerUnavailable
from eventlog.publisher import Position
from services.orders.api.ports import PublishesAll
from services.orders.domain.ids import OrderName, campaign_of

SOURCE = "/groupbuy/orders"
#: Header with the campaign that an order opens a group of, for the sequencer.
CAMPAIGN_HEADER = "groupbuy-campaign"
_PLACED = OrderPlaced.DESCRIPTOR.full_name
_CANCEL_REQUESTED = OrderCancelRequested.DESCRIPTOR.full_name
#: Seconds for the broker to acknowledge, where the caller's deadline leaves them.
PUBLISH_S = 10.0


def placed(
    name: OrderName, request: PlaceOrderRequest, digest: bytes, invitation: Invitation | None = None
) -> OrderFact:
    """The fact that a request states; `digest` is the request's, `invitation` what its share link said."""
    return OrderFact(
        order=name.order,
        group=name.group,
        customer=request.customer,
        placed=OrderPlaced(
            campaign=campaign_of(request.campaign),
            opens_group=not request.group,
            solo=request.solo,
            quantity=request.quantity,
            currency=request.currency,
            max_unit_price_minor=request.max_unit_price_minor,
            payment_method=request.payment_method,
            request_id=request.request_id,
            request_sha256=digest,
            invitation=invitation,
        ),
    )


def cancel_requested(name: OrderName, customer: str, request: CancelOrderRequest) -> OrderFact:
    """The shopper's wish to leave."""
    wish = OrderCancelRequested(request_id=request.request_id, reason=request.reason)
    return OrderFact(order=name.order, group=name.group, customer=customer, cancel_requested=wish)


class Facts:
    """Appends order facts."""

    def __init__(self, publisher: PublishesAll, now_ms: Callable[[], int]) -> None:
        self._publisher = publisher
        self._now_ms = now_ms

    async def append(self, fact: OrderFact, patience: Patience) -> Position:
        """Appends a fact and returns where it stands. Raises BrokerUnavailable."""
        record = self._record(fact)
        return await self._publisher.publish(
            ORDERS.name, record.key, record.value, record.headers, timeout_s=_within_s(patience)
        )

    async def append_all(self, facts: Sequence[OrderFact], patience: Patience) -> list[Position | BrokerUnavailable]:
        """Appends facts together, and says of each where it stands or that it was not acknowledged."""
        records = [self._record(fact) for fact in facts]
        return await self._publisher.publish_all(ORDERS.name, records, timeout_s=_within_s(patience))

    def _record(self, fact: OrderFact) -> Record:
        extra: dict[str, str] = {}
        if fact.HasField("placed"):
            ce_id, kind = f"{fact.order}:placed", _PLACED
            if fact.placed.opens_group:
                extra[CAMPAIGN_HEADER] = fact.placed.campaign
        else:
            ce_id, kind = f"{fact.order}:cancel_requested:{fact.cancel_requested.request_id}", _CANCEL_REQUESTED
        made = headers(ce_id, kind, SOURCE, self._now_ms(), str(OrderName(fact.group, fact.order)), extra)
        return Record(fact.group, fact.SerializeToString(), made)


def _within_s(patience: Patience) -> float:
    # Never 0, which would mean the publisher's own time-out.
    return max(patience.left_s(PUBLISH_S), 0.001)
