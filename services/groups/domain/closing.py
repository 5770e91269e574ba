"""What happens to seats and to the whole group: leaving, promotion, completion, expiry, cancellation. Rules version 1.

Completion is decided on the set of confirmed orders as evolved, never on a count read before. Must never look at the
input: these are the consequences, whatever caused them.
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


def leave(state: State, order: str, reason: ReleaseReason.ValueType, *, give_back: bool = True) -> Iterator[GroupEvent]:
    """An order gives up its seat in a forming group. The deadline stays, whoever leads.

    `give_back` is False only where it is known that no money is held and none will be.
    """
    led = state.leader == order
    yield events.seat_released(order, reason)
    if give_back:
        yield events.release_requested(order, reason)
    if state.frozen.solo:
        yield events.expired(0)
    elif led:
        yield events.leader_changed(state)


def lapse(state: State, item: Item | None, at_ms: int) -> Iterator[GroupEvent]:
    """The earliest reservation was not paid in time."""
    return leave(state, next(iter(state.reserved)), RELEASE_REASON_LAPSED)


def promote(state: State, item: Item | None, at_ms: int) -> Iterator[GroupEvent]:
    """The first in the waitlist takes a free seat. Its time to pay starts now, when payments first hears of it."""
    order, waiter = next(iter(state.waiting.items()))
    yield events.seat_reserved(
        state.frozen,
        state.deadline_ms,
        order,
        waiter.customer,
        waiter.quantity,
        waiter.payment_method,
        waiter.request_sha256,
        at_ms,
        waiter.invitation,
    )


def reach_deadline(state: State, item: Item | None, at_ms: int) -> Iterator[GroupEvent]:
    """The group closes for good, one way or the other."""
    members = len(state.confirmed)
    terms = state.frozen
    tier = tier_at(terms, members)
    if tier is not None:
        yield from complete(state, tier)
    elif 0 < terms.house_fill_members <= members:
        yield from complete(state, terms.tiers[0], house_filled=True)
    else:
        yield events.expired(members)
        yield from _let_go(state, RELEASE_REASON_GROUP_EXPIRED)


def complete(state: State, tier: Tier, *, house_filled: bool = False) -> Iterator[GroupEvent]:
    """All confirmed members are charged the tier's price; whoever has not paid is let go."""
    if state.leader not in state.confirmed:
        # A leader who has not paid by now leaves like everybody else who has not.
        yield events.leader_changed(state)
    terms = state.frozen
    leader = state.leader
    yield events.completed(state.confirmed, tier, house_filled, leader)
    for order, seat in state.confirmed.items():
        amount = capture_amount(terms, tier.unit_price_minor, seat.quantity, order == leader)
        yield events.settlement_requested(order, seat.hold, amount, terms.currency)
    yield from _let_go(state, RELEASE_REASON_GROUP_COMPLETED)


def cancel_group(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """An operator or the merchant ends a forming group."""
    yield events.cancelled(item.message.reason)
    yield from _let_go(state, RELEASE_REASON_GROUP_CANCELLED)


def fault_forming(state: State, error: str, at_ms: int) -> Iterator[GroupEvent]:
    """The rules failed: a forming group can't be trusted to go on."""
    yield events.faulted(error)
    yield events.cancelled(f"fault: {error}")
    yield from _let_go(state, RELEASE_REASON_FAULTED)


def fault(state: State, error: str, at_ms: int) -> Iterator[GroupEvent]:
    """The rules failed on a group that is not forming: it stays as it is, with an alarm."""
    yield events.faulted(error)


def _let_go(state: State, reason: ReleaseReason.ValueType) -> Iterator[GroupEvent]:
    """Everybody who has a seat in a group that has just closed, save those who are to be charged; then who waits."""
    staying = () if state.phase is Phase.COMPLETED else tuple(state.confirmed)
    for order in (*staying, *state.reserved):
        yield events.seat_released(order, reason)
        yield events.release_requested(order, reason)
    for order in tuple(state.waiting):
        # No money was ever asked for.
        yield events.seat_released(order, reason)
