"""Maps the projection's view of an order to the message of the API."""

from __future__ import annotations

from functools import lru_cache

from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.orders.v1.orders_pb2 import ORDER_STATE_PLACED, Order

from services.orders.api.placing.parsed_order import ParsedOrder
from services.orders.domain.ids import OrderName
from services.orders.domain.model import GroupOrders, Money, OrderView


def order_message(name: OrderName, group: GroupOrders, view: OrderView) -> Order:
    """The message of an order."""
    message = Order()
    show(message, name, group, view)
    return message


def show(message: Order, name: OrderName, group: GroupOrders, view: OrderView) -> None:
    """Fills in an empty message inside an answer, because copying a message takes twice as long.

    Fields that a new order does not have are set only if they have a value.
    """
    message.name = str(name)
    message.group = f"groups/{name.group}"
    message.campaign = f"campaigns/{view.campaign or group.campaign}"
    message.customer = view.customer
    message.quantity = view.quantity
    message.currency = view.currency or group.currency
    message.state = view.state
    message.max_unit_price_minor = view.max_unit_price_minor
    _set_time(message.create_time, view.created_ms)
    _set_time(message.update_time, view.updated_ms)
    message.revision = view.revision
    message.opened_group = view.opens_group or group.opener == name.order
    message.solo = view.solo or (group.solo and group.opener == name.order)
    if view.seat_reason:
        message.reason = view.seat_reason
    if view.unit_price_minor:
        message.unit_price_minor = view.unit_price_minor
    if view.cancel_refused:
        message.cancel_refused = view.cancel_refused
    if view.money is not None or view.settled_minor:
        message.held_minor = view.held_minor
        message.captured_minor = view.captured_minor
        message.refunded_minor = view.refunded_minor
        message.action_url = view.action_url
        if view.money is not None:
            _show_life(message, view.money)


def _show_life(message: Order, money: Money) -> None:
    """The real flow of the money: most orders have the taken and the kept amount alone."""
    if money.taken_minor:
        message.taken_minor = money.taken_minor
        message.kept_minor = money.kept_minor
    if money.debts:
        for one in money.debts.values():
            message.owed_minor += one.amount_minor
            message.owed.add(amount_minor=one.amount_minor, reason=one.reason, alarm=one.alarm)
    if money.disputes:
        message.dispute_state = money.dispute_state
        message.disputed_minor = money.disputed_minor


def show_placed(message: Order, parsed: ParsedOrder, time_ms: int) -> None:
    """Fills in an empty message for an order whose fact is in the log but not folded yet.

    The result equals that of `show` for the fact alone. Folding the fact would take as long as appending it.
    """
    request = parsed.request
    message.CopyFrom(_placed_at(time_ms))
    message.name = str(parsed.name)
    message.group = f"groups/{parsed.name.group}"
    message.campaign = request.campaign
    message.customer = request.customer
    message.quantity = request.quantity
    message.currency = request.currency
    message.max_unit_price_minor = request.max_unit_price_minor
    if parsed.opens:
        message.opened_group = True
    if request.solo:
        message.solo = True


@lru_cache(maxsize=64)
def _placed_at(time_ms: int) -> Order:
    """The fields that all orders placed at one time share. The broker gives all records of a batch one time."""
    message = Order(state=ORDER_STATE_PLACED, revision=1)
    _set_time(message.create_time, time_ms)
    _set_time(message.update_time, time_ms)
    return message


def _set_time(message: Timestamp, time_ms: int) -> None:
    message.seconds = time_ms // 1_000
    message.nanos = time_ms % 1_000 * 1_000_000
