"""Folds group events into the seat of an order. No event changes a final state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import intern
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import (
    RELEASE_REASON_CANCELLED,
    RELEASE_REASON_DECLINED,
    RELEASE_REASON_LAPSED,
    CancelRefused,
    MemberConfirmed,
    MemberDeclined,
    MemberReleased,
    MemberSettled,
    RefusalReason,
    ReleaseReason,
    SeatRefused,
    SeatReleased,
    SeatReserved,
    SeatWaitlisted,
)
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_STATE_CANCELLED,
    ORDER_STATE_CONFIRMED,
    ORDER_STATE_DECLINED,
    ORDER_STATE_LAPSED,
    ORDER_STATE_PLACED,
    ORDER_STATE_REFUSED,
    ORDER_STATE_RELEASED,
    ORDER_STATE_RESERVED,
    ORDER_STATE_SETTLED,
    ORDER_STATE_WAITLISTED,
    OrderState,
)

from services.orders.domain.model import FINAL, OrderView

#: States in which the group can still reserve or refuse a seat.
UNSEATED = (ORDER_STATE_PLACED, ORDER_STATE_WAITLISTED)
#: Final state by the reason of a release; RELEASED for all other reasons.
RELEASED_AS: Mapping[ReleaseReason.ValueType, OrderState.ValueType] = {
    RELEASE_REASON_CANCELLED: ORDER_STATE_CANCELLED,
    RELEASE_REASON_LAPSED: ORDER_STATE_LAPSED,
    RELEASE_REASON_DECLINED: ORDER_STATE_DECLINED,
}
#: Names of reasons without the prefix of the enum. All orders share the strings.
REFUSALS = {number: intern(name.removeprefix("REFUSAL_REASON_")) for name, number in RefusalReason.items()}
RELEASES = {number: intern(name.removeprefix("RELEASE_REASON_")) for name, number in ReleaseReason.items()}


def fold(order: OrderView, kind: str, event: Any, time_ms: int) -> None:
    """Folds one event that names this order; `kind` is one of RULES."""
    if RULES[kind](order, event):
        order.changes += 1
        order.update_times(time_ms)


def completed(order: OrderView, unit_price_minor: int, time_ms: int) -> None:
    """Sets the price of one piece at which the group completed with this order."""
    order.unit_price_minor = unit_price_minor
    order.changes += 1
    order.update_times(time_ms)


def _set_state(order: OrderView, state: OrderState.ValueType, reason: str = "") -> bool:
    if order.seat_state in FINAL or order.seat_state == state:
        return False
    order.seat_state = state
    order.seat_reason = reason
    return True


def _decide_seat(
    order: OrderView,
    event: SeatReserved | SeatWaitlisted | SeatRefused,
    state: OrderState.ValueType,
    reason: str = "",
) -> bool:
    """Folds the group's decision on a placed or waiting order. It names the request that owns the order's id."""
    if order.seat_state not in UNSEATED or not _set_state(order, state, reason):
        return False
    order.customer = event.customer or order.customer
    order.request_sha256 = event.request_sha256 or order.request_sha256
    if not isinstance(event, SeatRefused):
        order.quantity = event.quantity
    if isinstance(event, SeatReserved):
        order.currency = intern(event.currency)
        if event.HasField("invitation"):
            order.invitation = event.invitation.SerializeToString()
    return True


def _waitlisted(order: OrderView, event: SeatWaitlisted) -> bool:
    return _decide_seat(order, event, ORDER_STATE_WAITLISTED)


def _reserved(order: OrderView, event: SeatReserved) -> bool:
    return _decide_seat(order, event, ORDER_STATE_RESERVED)


def _refused(order: OrderView, event: SeatRefused) -> bool:
    return _decide_seat(order, event, ORDER_STATE_REFUSED, REFUSALS.get(event.reason, str(event.reason)))


def _confirmed(order: OrderView, event: MemberConfirmed) -> bool:
    return _set_state(order, ORDER_STATE_CONFIRMED)


def _released(order: OrderView, event: SeatReleased) -> bool:
    state = RELEASED_AS.get(event.reason, ORDER_STATE_RELEASED)
    return _set_state(order, state, RELEASES.get(event.reason, str(event.reason)))


def _settled(order: OrderView, event: MemberSettled) -> bool:
    if not _set_state(order, ORDER_STATE_SETTLED):
        return False
    order.settled_minor = event.amount_minor
    return True


def _charge_declined(order: OrderView, event: MemberDeclined) -> bool:
    return _set_state(order, ORDER_STATE_DECLINED, event.reason or "CAPTURE_DECLINED")


def _member_released(order: OrderView, event: MemberReleased) -> bool:
    changed = not order.released
    order.released = True
    return changed


def _cancel_refused(order: OrderView, event: CancelRefused) -> bool:
    reason = event.reason or "CLOSED"
    changed = order.cancel_refused != reason
    order.cancel_refused = reason
    return changed


#: Rules by event. Other events concern the group, or are instructions to payments.
RULES: Mapping[str, Callable[[OrderView, Any], bool]] = {
    "seat_waitlisted": _waitlisted,
    "seat_reserved": _reserved,
    "seat_refused": _refused,
    "member_confirmed": _confirmed,
    "seat_released": _released,
    "member_settled": _settled,
    "member_declined": _charge_declined,
    "member_released": _member_released,
    "cancel_refused": _cancel_refused,
}
