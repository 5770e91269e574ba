"""The order message that callers see, made from the projection's view."""

from __future__ import annotations

from functools import lru_cache

from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.orders.v1.orders_pb2 import ORDER_STATE_PLACED, Order

from services.orders.api.parsed_order import ParsedOrder
from services.orders.domain.fold import OrderView
from services.orders.domain.ids import OrderName
from services.orders.domain.model import GroupOrders


def order_message(name: OrderName, group: GroupOrders, view: OrderView) -> Order:
    """An order as the API shows it."""
    made = Order()
    show(made, name, group, view)
    return made


def show(made: Order, name: OrderName, group: GroupOrders, view: OrderView) -> None:
    """Makes an empty message an order as the API shows it.

    For the order inside an answer: to make it apart and have it copied takes twice as long, and what an order begins
    without is not set.
    """
    made.name = str(name)
    made.group = f"groups/{name.group}"
    made.campaign = f"campaigns/{view.campaign or group.campaign}"
    made.customer = view.customer
    made.quantity = view.quantity
    made.currency = view.currency or group.currency
    made.state = view.state
    made.max_unit_price_minor = view.max_unit_price_minor
    _set_time(made.create_time, view.created_ms)
    _set_time(made.update_time, view.updated_ms)
    made.revision = view.revision
    made.opened_group = view.opens_group or group.opener == name.order
    made.solo = view.solo or (group.solo and group.opener == name.order)
    if view.seat_reason:
        made.reason = view.seat_reason
    if view.unit_price_minor:
        made.unit_price_minor = view.unit_price_minor
    if view.cancel_refused:
        made.cancel_refused = view.cancel_refused
    if view.money is not None or view.settled_minor:
        made.held_minor = view.held_minor
        made.captured_minor = view.captured_minor
        made.refunded_minor = view.refunded_minor
        made.action_url = view.action_url


def show_placed(made: Order, asked: ParsedOrder, time_ms: int) -> None:
    """Makes an empty message the order of a fact that stands in the log, before it is read there.

    It is what `show` makes of that fact alone. To fold it first would take as long as to state it.
    """
    request = asked.request
    made.CopyFrom(_placed_at(time_ms))
    made.name = str(asked.name)
    made.group = f"groups/{asked.name.group}"
    made.campaign = request.campaign
    made.customer = request.customer
    made.quantity = request.quantity
    made.currency = request.currency
    made.max_unit_price_minor = request.max_unit_price_minor
    if asked.opens:
        made.opened_group = True
    if request.solo:
        made.solo = True


@lru_cache(maxsize=64)
def _placed_at(time_ms: int) -> Order:
    """What is the same in all orders just placed. The broker gives one time to all records of a batch."""
    made = Order(state=ORDER_STATE_PLACED, revision=1)
    _set_time(made.create_time, time_ms)
    _set_time(made.update_time, time_ms)
    return made


def _set_time(made: Timestamp, time_ms: int) -> None:
    made.seconds = time_ms // 1_000
    made.nanos = time_ms % 1_000 * 1_000_000
