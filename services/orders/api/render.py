"""The order message that callers see, made from the projection's view."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.orders.v1.orders_pb2 import Order

from services.orders.domain.ids import OrderName
from services.orders.domain.orders import GroupOrders
from services.orders.domain.view import OrderView


def order_message(name: OrderName, group: GroupOrders, view: OrderView) -> Order:
    """An order as the API shows it."""
    return Order(
        name=str(name),
        group=f"groups/{name.group}",
        campaign=f"campaigns/{view.campaign or group.campaign}",
        customer=view.customer,
        quantity=view.quantity,
        currency=view.currency or group.currency,
        state=view.state,
        reason=view.seat_reason,
        max_unit_price_minor=view.max_unit_price_minor,
        unit_price_minor=view.unit_price_minor,
        held_minor=view.held_minor,
        captured_minor=view.captured_minor,
        refunded_minor=view.refunded_minor,
        action_url=view.action_url,
        create_time=_timestamp(view.created_ms),
        update_time=_timestamp(view.updated_ms),
        revision=view.revision,
        opened_group=view.opens_group or group.opener == name.order,
        solo=view.solo or (group.solo and group.opener == name.order),
        cancel_refused=view.cancel_refused,
    )


def _timestamp(time_ms: int) -> Timestamp:
    made = Timestamp()
    made.FromMilliseconds(time_ms)
    return made
