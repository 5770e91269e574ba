"""Applies an event to a group's state, in place. It accepts every event that any version of the rules has written.

The same code folds new decisions and decisions from the log. It makes no decisions, and its time is in proportion to
the size of the event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.decisions_pb2 import GroupEvent

from services.groups.domain.model import (
    CANCEL_REFUSED,
    RELEASE_DONE,
    RELEASE_REQUESTED,
    STATUS_BITS,
    OrderStatus,
    Phase,
    Seat,
    State,
    Supply,
    WaitlistEntry,
    owed_key,
)
from services.groups.domain.terms import SUPPLY_RULES_VERSION, terms_of

_STATUS_BY_REASON: dict[int, OrderStatus] = {
    pb.RELEASE_REASON_CANCELLED: OrderStatus.CANCELLED,
    pb.RELEASE_REASON_LAPSED: OrderStatus.LAPSED,
    pb.RELEASE_REASON_DECLINED: OrderStatus.HOLD_DECLINED,
}
#: A local copy: the lookup in the enumeration takes as long as the rest of the work at the end of most orders.
_SETTLED = OrderStatus.SETTLED


class UnknownEvent(ValueError):
    """An event that this build does not know. Deploy a newer build; events are not skipped."""


def evolve(state: State, event: GroupEvent, at_ms: int) -> None:
    """Applies one event. Raises UnknownEvent, and UnknownRules if the terms name unknown rules."""
    body = event.WhichOneof("body")
    if body is None:
        raise UnknownEvent("the GroupEvent has no body that this build knows")
    act = EVOLVE[body]
    # A fifth of all events change nothing. This comparison is faster than reading the body.
    if act is not _no_change:
        act(state, getattr(event, body), at_ms)


# The group ----------------------------------------------------------------------------------------------------------


def _opened(state: State, event: pb.GroupOpened, at_ms: int) -> None:
    state.terms = terms_of(event.terms.SerializeToString())
    state.phase = Phase.FORMING
    state.leader = event.leader_order
    state.opened_ms = at_ms
    state.deadline_ms = event.deadline_ms
    if state.terms.rules_version >= SUPPLY_RULES_VERSION:
        state.supply = Supply()


def _leader_changed(state: State, event: pb.LeaderChanged, at_ms: int) -> None:
    state.leader = event.order


def _tier_reached(state: State, event: pb.TierReached, at_ms: int) -> None:
    state.tiers_reached += 1


def _completed(state: State, event: pb.GroupCompleted, at_ms: int) -> None:
    state.unit_price_minor = event.unit_price_minor
    state.leader = event.leader_order
    _close(state, Phase.COMPLETED)


def _expired(state: State, event: pb.GroupExpired, at_ms: int) -> None:
    _close(state, Phase.EXPIRED)


def _cancelled(state: State, event: pb.GroupCancelled, at_ms: int) -> None:
    _close(state, Phase.CANCELLED)


def _close(state: State, phase: Phase) -> None:
    state.phase = phase
    state.members = len(state.confirmed)
    # The counts are needed for joins only.
    state.customers = {}


def _no_change(state: State, event: Any, at_ms: int) -> None:
    """An event for other services or for the record."""


# Seats --------------------------------------------------------------------------------------------------------------


def _seat_reserved(state: State, event: pb.SeatReserved, at_ms: int) -> None:
    order = event.order
    customer = event.customer
    entry = state.waitlist.pop(order, None) if state.waitlist else None
    if entry is None:
        state.customers[customer] = state.customers.get(customer, 0) + 1
    quantity = event.quantity
    state.reserved[order] = Seat(customer, quantity, event.reserved_until_ms)
    state.seated_ms = at_ms
    supply = state.supply
    if supply is not None:
        supply.pieces += quantity
        supply.admitting.pop(order, None)


def _seat_refused(state: State, event: pb.SeatRefused, at_ms: int) -> None:
    cancelled = event.reason == pb.REFUSAL_REASON_CANCELLED
    _end(state, event.order, OrderStatus.CANCELLED if cancelled else OrderStatus.REFUSED)
    if state.supply is not None:
        _leave_supply(state, state.supply, event)


def _seat_waitlisted(state: State, event: pb.SeatWaitlisted, at_ms: int) -> None:
    customer = event.customer
    invitation = event.invitation.SerializeToString() if event.HasField("invitation") else b""
    entry = WaitlistEntry(customer, event.quantity, event.payment_method, event.request_sha256, invitation)
    state.waitlist[event.order] = entry
    state.customers[customer] = state.customers.get(customer, 0) + 1
    if state.supply is not None:
        state.supply.admitting.pop(event.order, None)


def _member_confirmed(state: State, event: pb.MemberConfirmed, at_ms: int) -> None:
    order = event.order
    seat = state.reserved.pop(order)
    seat.until_ms = 0
    seat.hold = event.hold
    state.confirmed[order] = seat


def _seat_released(state: State, event: pb.SeatReleased, at_ms: int) -> None:
    order = event.order
    seat: Seat | WaitlistEntry | None = state.reserved.pop(order, None) or state.confirmed.pop(order, None)
    supply = state.supply
    if supply is not None and seat is not None:
        supply.pieces -= seat.quantity
    seat = seat or state.waitlist.pop(order, None)
    if supply is not None and seat is not None and state.frozen.limit_per_customer:
        supply.unreturned[order] = seat.customer
    _end(state, order, _STATUS_BY_REASON.get(event.reason, OrderStatus.RELEASED))
    if state.phase is not Phase.FORMING:
        _shrink(state)
    elif seat is not None:
        _leave(state, seat.customer)


def _leave(state: State, customer: str) -> None:
    """Counts one live order of a customer less."""
    left = state.customers[customer] - 1
    if left:
        state.customers[customer] = left
    else:
        del state.customers[customer]


def _cancel_refused(state: State, event: pb.CancelRefused, at_ms: int) -> None:
    seat = state.confirmed.get(event.order)
    if seat is not None:
        seat.cancel_refused = True
    else:
        _set_flag(state, event.order, CANCEL_REFUSED)


# Money --------------------------------------------------------------------------------------------------------------


def _release_requested(state: State, event: pb.ReleaseRequested, at_ms: int) -> None:
    _set_flag(state, event.order, RELEASE_REQUESTED)
    # Payments reports a release once. If it has released the order by itself, no report is pending.
    if not state.ended[event.order] & RELEASE_DONE:
        state.unreleased += 1


def _member_released(state: State, event: pb.MemberReleased, at_ms: int) -> None:
    if state.ended.get(event.order, 0) & (RELEASE_REQUESTED | RELEASE_DONE) == RELEASE_REQUESTED:
        state.unreleased -= 1
    _set_flag(state, event.order, RELEASE_DONE)


def _member_settled(state: State, event: pb.MemberSettled, at_ms: int) -> None:
    state.settled += 1
    state.captured_minor += event.amount_minor
    _end_settlement(state, event.order, _SETTLED)


def _member_declined(state: State, event: pb.MemberDeclined, at_ms: int) -> None:
    state.declined += 1
    _end_settlement(state, event.order, OrderStatus.CAPTURE_DECLINED)


def _member_owed(state: State, event: pb.MemberOwed, at_ms: int) -> None:
    key = owed_key(event.order, event.hold, event.refund)
    state.owed_version = max(state.owed_version, event.payments_version)
    if event.amount_minor:
        state.owed[key] = event.amount_minor
    else:
        state.owed.pop(key, None)


def _end_settlement(state: State, order: str, status: OrderStatus) -> None:
    seat = state.confirmed.pop(order)
    if status is _SETTLED:
        state.charged_pieces += seat.quantity
    supply = state.supply
    if supply is not None:
        supply.pieces -= seat.quantity
        if status is _SETTLED:
            supply.sold += seat.quantity
        elif state.frozen.limit_per_customer:
            supply.unreturned[order] = seat.customer
    _end(state, order, status)
    if seat.cancel_refused:
        _set_flag(state, order, CANCEL_REFUSED)
    _shrink(state)


# Pieces and allowances ----------------------------------------------------------------------------------------------


def _supply(state: State) -> Supply:
    """The pieces and allowances. Raises ValueError for a group of rules version 1."""
    if state.supply is None:
        raise ValueError("the group has no stock and no limit")
    return state.supply


def _leave_supply(state: State, supply: Supply, event: pb.SeatRefused) -> None:
    """Removes a refused order that was admitted, or waited."""
    order = event.order
    waiting = state.waitlist.pop(order, None)
    if waiting is not None and state.phase is Phase.FORMING:
        _leave(state, waiting.customer)
    entry = waiting or supply.admitting.pop(order, None)
    # A denied order has nothing to give back.
    denied = event.reason == pb.REFUSAL_REASON_LIMIT_REACHED
    if entry is not None and state.frozen.limit_per_customer and not denied:
        supply.unreturned[order] = entry.customer


def _admission_requested(state: State, event: pb.AdmissionRequested, at_ms: int) -> None:
    invitation = event.invitation.SerializeToString() if event.HasField("invitation") else b""
    entry = WaitlistEntry(event.customer, event.quantity, event.payment_method, event.request_sha256, invitation)
    _supply(state).admitting[event.order] = entry


def _allowance_returned(state: State, event: pb.AllowanceReturned, at_ms: int) -> None:
    _supply(state).unreturned.pop(event.order)


def _units_requested(state: State, event: pb.UnitsRequested, at_ms: int) -> None:
    supply = _supply(state)
    supply.asked = supply.ever_asked = True


def _units_granted(state: State, event: pb.UnitsGranted, at_ms: int) -> None:
    supply = _supply(state)
    supply.asked = supply.sold_out = False
    supply.leased += event.units
    supply.stock_version = event.stock_version


def _units_denied(state: State, event: pb.UnitsDenied, at_ms: int) -> None:
    supply = _supply(state)
    supply.asked = event.queued
    supply.sold_out = True
    supply.stock_version = event.stock_version


def _units_returned(state: State, event: pb.UnitsReturned, at_ms: int) -> None:
    supply = _supply(state)
    supply.leased -= event.units
    supply.closed = supply.closed or event.closed


def _units_sold(state: State, event: pb.UnitsSold, at_ms: int) -> None:
    supply = _supply(state)
    supply.sold -= event.units
    supply.leased -= event.units


# Ends ---------------------------------------------------------------------------------------------------------------


def _end(state: State, order: str, status: OrderStatus) -> None:
    """Ends an order and keeps its flags."""
    state.ended[order] = status | (state.ended.get(order, 0) & ~STATUS_BITS)


def _set_flag(state: State, order: str, flag: int) -> None:
    state.ended[order] = state.ended.get(order, int(OrderStatus.ORPHANED)) | flag


def _shrink(state: State) -> None:
    """Frees the hash tables of a closed group once its last live order has ended."""
    if not (state.reserved or state.confirmed or state.waitlist):
        state.reserved = {}
        state.confirmed = {}
        state.waitlist = {}


EVOLVE: dict[str, Callable[[State, Any, int], None]] = {
    "opened": _opened,
    "seat_reserved": _seat_reserved,
    "seat_refused": _seat_refused,
    "seat_waitlisted": _seat_waitlisted,
    "member_confirmed": _member_confirmed,
    "seat_released": _seat_released,
    "leader_changed": _leader_changed,
    "tier_reached": _tier_reached,
    "completed": _completed,
    "expired": _expired,
    "cancelled": _cancelled,
    "settlement_requested": _no_change,
    "release_requested": _release_requested,
    "member_settled": _member_settled,
    "member_released": _member_released,
    "member_declined": _member_declined,
    "member_owed": _member_owed,
    "settled": _no_change,
    "cancel_refused": _cancel_refused,
    "faulted": _no_change,
    "units_requested": _units_requested,
    "units_granted": _units_granted,
    "units_denied": _units_denied,
    "units_returned": _units_returned,
    "units_sold": _units_sold,
    "admission_requested": _admission_requested,
    "allowance_returned": _allowance_returned,
}
