"""How seats and groups end: release, promotion, completion, expiry and cancellation. Rules version 1.

Completion counts the confirmed orders of the state at that moment. These functions do not read the input that caused
them.
"""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.groups.v1.decisions_pb2 import (
    RELEASE_REASON_FAULTED,
    RELEASE_REASON_GROUP_CANCELLED,
    RELEASE_REASON_GROUP_COMPLETED,
    RELEASE_REASON_GROUP_EXPIRED,
    RELEASE_REASON_LAPSED,
    GroupEvent,
    ReleaseReason,
)

from services.groups.domain import events
from services.groups.domain.command import Item
from services.groups.domain.model import Phase, State
from services.groups.domain.pricing import capture_amount, tier_at
from services.groups.domain.terms import Tier


def release_seat(
    state: State, order: str, reason: ReleaseReason.ValueType, *, return_funds: bool = True
) -> Iterator[GroupEvent]:
    """Releases an order's seat in a forming group. A change of leader does not move the deadline.

    `return_funds` is False only if no money is held for the order and none can be held later.
    """
    was_leader = state.leader == order
    yield events.seat_released(order, reason)
    if return_funds:
        yield events.release_requested(order, reason)
    if state.frozen.solo:
        yield events.expired(0)
    elif was_leader:
        yield events.leader_changed(state)


def lapse(state: State, item: Item | None, at_ms: int) -> Iterator[GroupEvent]:
    """Releases the earliest reservation, whose hold window is over."""
    return release_seat(state, next(iter(state.reserved)), RELEASE_REASON_LAPSED)


def promote(state: State, item: Item | None, at_ms: int) -> Iterator[GroupEvent]:
    """Seats the first order of the waitlist. Its hold window starts now, because payments learns of it now."""
    order, entry = next(iter(state.waitlist.items()))
    yield events.seat_for(state.frozen, state.deadline_ms, order, entry, at_ms)


def reach_deadline(state: State, item: Item | None, at_ms: int) -> Iterator[GroupEvent]:
    """Completes or expires the group at its deadline."""
    members = len(state.confirmed)
    terms = state.frozen
    tier = tier_at(terms, members)
    if tier is not None:
        yield from complete(state, tier)
    elif 0 < terms.house_fill_members <= members:
        # Virtual completion ("house fill" on the wire): the merchant grants the first tier to a group below it.
        yield from complete(state, terms.tiers[0], virtual=True)
    else:
        yield events.expired(members)
        yield from _release_all(state, RELEASE_REASON_GROUP_EXPIRED)


def complete(state: State, tier: Tier, *, virtual: bool = False) -> Iterator[GroupEvent]:
    """Charges all confirmed members the tier's price and releases every other order."""
    if state.leader not in state.confirmed:
        # A leader without a hold is released like every other unpaid order.
        yield events.leader_changed(state)
    terms = state.frozen
    leader = state.leader
    yield events.completed(state.confirmed, tier, virtual, leader)
    for order, seat in state.confirmed.items():
        amount = capture_amount(terms, tier.unit_price_minor, seat.quantity, order == leader)
        yield events.settlement_requested(order, seat.hold, amount, terms.currency)
    yield from _release_all(state, RELEASE_REASON_GROUP_COMPLETED)


def cancel_group(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Ends a forming group at the command of an operator or the merchant."""
    yield events.cancelled(item.message.reason)
    yield from _release_all(state, RELEASE_REASON_GROUP_CANCELLED)


def fault_forming(state: State, error: str, at_ms: int) -> Iterator[GroupEvent]:
    """Cancels a forming group after an error in the rules: its further decisions could be wrong."""
    yield events.faulted(error)
    yield events.cancelled(f"fault: {error}")
    yield from _release_all(state, RELEASE_REASON_FAULTED)


def fault(state: State, error: str, at_ms: int) -> Iterator[GroupEvent]:
    """Records an error in the rules. A group that is not forming keeps its state; the event is an alarm."""
    yield events.faulted(error)


def _release_all(state: State, reason: ReleaseReason.ValueType) -> Iterator[GroupEvent]:
    """Releases the seats of a group that has just closed, then its waitlist. Members of a completed group stay."""
    unsettled = () if state.phase is Phase.COMPLETED else tuple(state.confirmed)
    for order in (*unsettled, *state.reserved):
        yield events.seat_released(order, reason)
        yield events.release_requested(order, reason)
    for order in tuple(state.waitlist):
        # No hold was requested for these, so there are no funds to return.
        yield events.seat_released(order, reason)
