"""What the group makes of a purse's decisions: members confirmed, charged, failed, money sent back. Rules version 1.

Every amount that moved is answered once: a seat has it, or it goes back. Must never trust that a payment fact comes in
time, only once, or for an order that still wants it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.decisions_pb2 import GroupEvent
from groupbuy.payments.v1.decisions_pb2 import HoldAuthorised

from services.groups.domain import events
from services.groups.domain.closing import complete, leave
from services.groups.domain.command import Item
from services.groups.domain.model import RELEASE_DONE, RELEASE_REQUESTED, State
from services.groups.domain.pricing import hold_amount, tier_at
from services.groups.domain.terms import SETTLING_MS, Terms

# Holds --------------------------------------------------------------------------------------------------------------


def confirm(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Money is held for a reserved seat: a member. The last seat completes the group, in this very decision."""
    order = item.order
    hold: HoldAuthorised = item.message
    terms = state.frozen
    if not _is_good(state, terms, order, hold):
        yield from leave(state, order, pb.RELEASE_REASON_HOLD_TOO_SHORT)
        return
    yield events.member_confirmed(order, hold.hold, len(state.confirmed) + 1)
    if not state.leader:
        yield events.leader_changed(state)
    members = len(state.confirmed)
    tiers = terms.tiers
    reached = state.tiers_reached
    if reached < len(tiers) and members >= tiers[reached].members:
        yield events.tier_reached(tiers[reached])
    if members == terms.capacity and terms.closes_when_full:
        tier = tier_at(terms, members)
        if tier is None:
            raise ValueError(f"a full group of {members} reaches no tier")
        yield from complete(state, tier)


def _is_good(state: State, terms: Terms, order: str, hold: HoldAuthorised) -> bool:
    """Whether a hold is the one that was asked for, and lasts until a day past the deadline."""
    until_ms = hold.capturable_until_ms
    return (
        hold.amount_minor == hold_amount(terms, state.reserved[order].quantity)
        and hold.currency == terms.currency
        and (until_ms == 0 or until_ms >= state.deadline_ms + SETTLING_MS)
    )


def decline(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Nothing is held for a reserved seat, and nothing will be: there is nothing to send back."""
    return leave(state, item.order, pb.RELEASE_REASON_DECLINED, give_back=False)


def lose(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """A member's hold is said to be over while the group forms. Asked back all the same: better twice than lost."""
    return leave(state, item.order, pb.RELEASE_REASON_DECLINED)


def withdraw(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Payments let a live order go by itself: its seat goes too."""
    yield from leave(state, item.order, pb.RELEASE_REASON_DECLINED, give_back=False)
    yield events.member_released(item.order)


# Settlement ---------------------------------------------------------------------------------------------------------


def settle(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """A member was charged."""
    yield events.member_settled(item.order, item.message.amount_minor)
    yield from _finish(state)


def fail(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """A member could not be charged. The others' price stays."""
    yield events.member_failed(item.order, item.message.reason)
    yield from _finish(state)


def fail_released(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Payments let a member go instead of charging it."""
    yield events.member_failed(item.order, "RELEASED")
    yield events.member_released(item.order)
    yield from _finish(state)


def _finish(state: State) -> Iterable[GroupEvent]:
    return (events.settled(state),) if not state.confirmed else ()


# Money without a seat -----------------------------------------------------------------------------------------------


def return_funds(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Money for an order that has no seat, or that nobody knows. Asked back once: payments lets go for good."""
    if not state.ended.get(item.order, 0) & RELEASE_REQUESTED:
        yield events.release_requested(item.order, pb.RELEASE_REASON_NO_SEAT)


def unseat(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Money moved for a live order in a way that nobody asked for: it loses its place, the money goes back."""
    return leave(state, item.order, pb.RELEASE_REASON_NO_SEAT)


def release(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """An order's money is back. Said once."""
    if not state.ended[item.order] & RELEASE_DONE:
        yield events.member_released(item.order)
