"""What the group answers to a shopper: an order that opens it, joins it, or wants out. Rules version 1.

Each order gets exactly one answer, whatever comes again, late or out of order. Must never let a shopper pay more than
was agreed to, or by other terms than those the order names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.decisions_pb2 import GroupEvent, RefusalReason
from groupbuy.orders.v1.facts_pb2 import OrderFact, OrderPlaced

from services.groups.domain import events
from services.groups.domain.closing import leave
from services.groups.domain.command import Item
from services.groups.domain.model import CANCEL_REFUSED, OrderStatus, Phase, State
from services.groups.domain.terms import MAX_SEATS, Terms, freeze, problems, terms_of

#: As many as may wait, so that letting all of them go stays one small record.
MAX_WAITING = MAX_SEATS

_CLOSED = {
    Phase.COMPLETED: pb.REFUSAL_REASON_GROUP_COMPLETED,
    Phase.EXPIRED: pb.REFUSAL_REASON_GROUP_EXPIRED,
    Phase.CANCELLED: pb.REFUSAL_REASON_GROUP_CANCELLED,
}


# Opening ------------------------------------------------------------------------------------------------------------


def open_group(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """A leader's order: the campaign's terms are frozen, and the leader has the first seat."""
    fact: OrderFact = item.message
    placed = fact.placed
    terms, reason = _opening(placed, item.campaign)
    if terms is None:
        yield events.seat_refused(fact, reason)
        return
    yield events.opened(pb.Terms.FromString(terms.raw), fact, at_ms + terms.window_ms)
    yield _reserve(state, terms, item.order, fact.customer, placed, at_ms)


def _opening(placed: OrderPlaced, campaign: Campaign | None) -> tuple[Terms | None, RefusalReason.ValueType]:
    if campaign is None:
        return None, pb.REFUSAL_REASON_CAMPAIGN_UNKNOWN
    if campaign.name.removeprefix("campaigns/") != placed.campaign:
        return None, pb.REFUSAL_REASON_CAMPAIGN_MISMATCH
    if campaign.archived:
        return None, pb.REFUSAL_REASON_CAMPAIGN_ARCHIVED
    terms = _frozen(campaign.SerializeToString(), placed.solo)
    if terms is None:
        return None, pb.REFUSAL_REASON_TERMS_INVALID
    reason = _against(terms, placed)
    return (terms if reason is None else None), reason or pb.REFUSAL_REASON_UNSPECIFIED


@lru_cache(maxsize=1_024)
def _frozen(raw: bytes, solo: bool) -> Terms | None:
    """A campaign's frozen terms, remembered: many groups open with the same. None: they make no sense."""
    campaign = Campaign.FromString(raw)
    return None if problems(campaign) else terms_of(freeze(campaign, solo).SerializeToString())


def _against(terms: Terms, placed: OrderPlaced) -> RefusalReason.ValueType | None:
    """What in the terms stands against an order."""
    if placed.currency != terms.currency:
        return pb.REFUSAL_REASON_CURRENCY_MISMATCH
    if not 1 <= placed.quantity <= terms.max_quantity:
        return pb.REFUSAL_REASON_QUANTITY
    if placed.max_unit_price_minor < terms.entry_price_minor:
        return pb.REFUSAL_REASON_PRICE_CHANGED
    return None


# Joining ------------------------------------------------------------------------------------------------------------


def join(state: State, item: Item, at_ms: int) -> Iterable[GroupEvent]:
    """A friend's order: a seat, a place in the waitlist, or a refusal."""
    # Each field is read once, here and below: that takes about as long as to call a function.
    fact: OrderFact = item.message
    placed = fact.placed
    customer = fact.customer
    terms = state.frozen
    reason = _joining(state, terms, customer, placed)
    if reason is not None:
        return (events.seat_refused(fact, reason),)
    if state.seats_left > 0 and not state.waiting:
        return (_reserve(state, terms, item.order, customer, placed, at_ms),)
    if terms.waitlist and len(state.waiting) < MAX_WAITING:
        # A free seat belongs to those who wait already.
        return (events.seat_waitlisted(fact),)
    return (events.seat_refused(fact, pb.REFUSAL_REASON_GROUP_FULL),)


def _joining(state: State, terms: Terms, customer: str, placed: OrderPlaced) -> RefusalReason.ValueType | None:
    if terms.solo:
        return pb.REFUSAL_REASON_NOT_OPEN_TO_JOIN
    if placed.campaign != terms.campaign:
        return pb.REFUSAL_REASON_CAMPAIGN_MISMATCH
    reason = _against(terms, placed)
    if reason is not None:
        return reason
    if state.customers.get(customer, 0) >= terms.seats_per_customer:
        return pb.REFUSAL_REASON_ALREADY_MEMBER
    return None


def _reserve(state: State, terms: Terms, order: str, customer: str, placed: OrderPlaced, at_ms: int) -> GroupEvent:
    return events.seat_reserved(
        terms,
        state.deadline_ms,
        order,
        customer,
        placed.quantity,
        placed.payment_method,
        placed.request_sha256,
        at_ms,
        placed.invitation.SerializeToString() if placed.HasField("invitation") else b"",
    )


# Refusing -----------------------------------------------------------------------------------------------------------


def refuse_unknown_group(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """A join before, or without, a leader. The group may still open: its id is derived from its leader's order."""
    yield events.seat_refused(item.message, pb.REFUSAL_REASON_GROUP_UNKNOWN)


def refuse_second_leader(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Another order that would open a group that has been opened."""
    yield events.seat_refused(item.message, pb.REFUSAL_REASON_NOT_OPEN_TO_JOIN)


def refuse_closed(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """A join after the group closed."""
    yield events.seat_refused(item.message, _CLOSED[state.phase])


def refuse_orphaned(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """An order whose money was sent back before the order itself came: payments will not hold any for it."""
    yield events.seat_refused(item.message, pb.REFUSAL_REASON_CANCELLED)


def reject(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """An order whose record can't be read."""
    yield events.order_refused(item.order, "", pb.REFUSAL_REASON_UNREADABLE)


# Leaving ------------------------------------------------------------------------------------------------------------


def cancel_unseen(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """A cancel that overtook its order. Recorded as the order's end, so that the order finds it when it comes."""
    yield events.cancelled_before_arrival(item.message)


def cancel_seat(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """A shopper leaves a forming group."""
    return leave(state, item.order, pb.RELEASE_REASON_CANCELLED)


def cancel_waiting(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """A shopper leaves the waitlist. No money was ever asked for."""
    yield events.seat_released(item.order, pb.RELEASE_REASON_CANCELLED)


def refuse_cancel(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Too late. Said once an order."""
    order = item.order
    standing = state.standing(order)
    if standing is OrderStatus.SETTLING:
        said = state.confirmed[order].cancel_refused
    else:
        said = bool(state.ended[order] & CANCEL_REFUSED)
    if not said:
        yield events.cancel_refused(order, standing.name)
