"""Appends what shoppers did to the orders topic: the only thing that the orders service ever writes.

Must never write what a retry would write differently, apart from the time in its header.
"""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.orders.v1.facts_pb2 import OrderCancelRequested, OrderFact, OrderPlaced
from groupbuy.orders.v1.orders_pb2 import CancelOrderRequest, PlaceOrderRequest

from chassis.topics import ORDERS
from chassis.waiting import Patience
from eventlog.envelope import headers
from eventlog.publisher import Position
from services.orders.api.ports import Publishes
from services.orders.domain.ids import OrderName, campaign_of

SOURCE = "/groupbuy/orders"
#: Header with the campaign that an order opens a group of, for the sequencer.
CAMPAIGN_HEADER = "groupbuy-campaign"
#: Seconds for the broker to acknowledge, where the caller's deadline leaves them.
PUBLISH_S = 10.0


def placed(name: OrderName, request: PlaceOrderRequest, digest: bytes) -> OrderFact:
    """The fact that a request states; `digest` is the request's."""
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
        ),
    )


def cancel_requested(name: OrderName, customer: str, request: CancelOrderRequest) -> OrderFact:
    """The shopper's wish to leave."""
    wish = OrderCancelRequested(request_id=request.request_id, reason=request.reason)
    return OrderFact(order=name.order, group=name.group, customer=customer, cancel_requested=wish)


class Facts:
    """Appends order facts."""

    def __init__(self, publisher: Publishes, now_ms: Callable[[], int]) -> None:
        self._publisher = publisher
        self._now_ms = now_ms

    async def append(self, fact: OrderFact, patience: Patience) -> Position:
        """Appends a fact and returns where it stands. Raises BrokerUnavailable."""
        name = OrderName(fact.group, fact.order)
        extra: dict[str, str] = {}
        if fact.HasField("placed"):
            ce_id, kind = f"{fact.order}:placed", OrderPlaced.DESCRIPTOR.full_name
            if fact.placed.opens_group:
                extra[CAMPAIGN_HEADER] = fact.placed.campaign
        else:
            ce_id = f"{fact.order}:cancel_requested:{fact.cancel_requested.request_id}"
            kind = OrderCancelRequested.DESCRIPTOR.full_name
        return await self._publisher.publish(
            ORDERS.name,
            fact.group,
            fact.SerializeToString(),
            headers(ce_id, kind, SOURCE, self._now_ms(), str(name), extra),
            # Never 0, which would mean the publisher's own time-out.
            timeout_s=max(patience.left_s(PUBLISH_S), 0.001),
        )
