"""Rules for payment events: members are confirmed, charged or declined, and funds without a seat are returned. Rules
version 1.

Every amount has one outcome: it belongs to a seat, or the group requests its return once. A payment event can be late,
a duplicate, or for an order that has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.decisions_pb2 import GroupEvent
from groupbuy.payments.v1.decisions_pb2 import HoldAuthorised

from services.groups.domain import events
from services.groups.domain.closing import complete, release_seat
from services.groups.domain.command import Item
from services.groups.domain.model import RELEASE_DONE, RELEASE_REQUESTED, State, owed_key
from services.groups.domain.pricing import hold_amount, tier_at
from services.groups.domain.terms import SETTLING_MS, Terms

# Holds --------------------------------------------------------------------------------------------------------------


def confirm(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Confirms the member of a reserved seat whose hold is authorised. The last seat completes the group at once."""
    order = item.order
    hold: HoldAuthorised = item.message
    terms = state.frozen
    if not _is_sufficient(state, terms, order, hold):
        yield from release_seat(state, order, pb.RELEASE_REASON_HOLD_TOO_SHORT)
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
            # The text of an error in the rules is part of the Faulted event, so it stays.
            raise ValueError(f"a full group of {members} reaches no tier")
        yield from complete(state, tier)


def _is_sufficient(state: State, terms: Terms, order: str, hold: HoldAuthorised) -> bool:
    """Whether a hold has the requested amount and currency and lasts until one day after the deadline."""
    until_ms = hold.capturable_until_ms
    return (
        hold.amount_minor == hold_amount(terms, state.reserved[order].quantity)
        and hold.currency == terms.currency
        and (until_ms == 0 or until_ms >= state.deadline_ms + SETTLING_MS)
    )


def decline(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Releases a reserved seat whose hold was declined. There are no funds to return."""
    return release_seat(state, item.order, pb.RELEASE_REASON_DECLINED, return_funds=False)


def decline_confirmed(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Releases a confirmed member whose payment was declined while the group forms. Requests the return of its funds:
    part of them can still be held, and a second request has no effect."""
    return release_seat(state, item.order, pb.RELEASE_REASON_DECLINED)


def lose_hold(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Releases a confirmed member whose hold ended while the group forms: it does not count any more.

    The rules version stays, because no inbox of an older build has this input: an older build stops at it.
    """
    return release_seat(state, item.order, pb.RELEASE_REASON_HOLD_LOST)


def release_unfunded(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Releases the seat of a live order that payments released by itself."""
    yield from release_seat(state, item.order, pb.RELEASE_REASON_DECLINED, return_funds=False)
    yield events.member_released(item.order)


# Settlement ---------------------------------------------------------------------------------------------------------


def settle(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Records the charge of a member."""
    yield events.member_settled(item.order, item.message.amount_minor)
    yield from _settle_group(state)


def decline_capture(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Records that the charge of a member was declined. The price of the other members stays."""
    yield events.member_declined(item.order, item.message.reason)
    yield from _settle_group(state)


def decline_released(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Records that payments released a member instead of charging it."""
    yield events.member_declined(item.order, "RELEASED")
    yield events.member_released(item.order)
    yield from _settle_group(state)


def _settle_group(state: State) -> Iterable[GroupEvent]:
    """The event that settles the group, if no capture is pending."""
    return (events.settled(state),) if not state.confirmed else ()


def note_owed(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Records that a sum became owed to a customer, or is not owed any more. Its parts and attempts stay payments' own.

    A copy of a decision that is older than the last one that was recorded changes nothing. The rules version stays,
    because payments of earlier builds owed nothing.
    """
    message = item.message
    if item.payments_version < state.owed_version:
        return
    known = owed_key(item.order, message.hold, message.refund) in state.owed
    if known != bool(message.amount_minor):
        yield events.member_owed(item.order, message.hold, message.refund, message.amount_minor, item.payments_version)


# Money without a seat -----------------------------------------------------------------------------------------------


def return_funds(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Requests the return of funds for an order without a seat or an unknown order, once: a release is final."""
    if not state.ended.get(item.order, 0) & RELEASE_REQUESTED:
        yield events.release_requested(item.order, pb.RELEASE_REASON_NO_SEAT)


def release_unexpected(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Releases a live order that has unexpected funds, and requests their return."""
    return release_seat(state, item.order, pb.RELEASE_REASON_NO_SEAT)


def record_release(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Records once that payments has returned the money of an order."""
    if not state.ended[item.order] & RELEASE_DONE:
        yield events.member_released(item.order)
