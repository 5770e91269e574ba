"""Rules for the events of orders: an order opens a group, joins it, or is cancelled. Rules version 1.

Each order gets exactly one answer; duplicates and late events change nothing. An order whose price limit, campaign or
currency does not fit the frozen terms is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.decisions_pb2 import GroupEvent, RefusalReason
from groupbuy.orders.v1.facts_pb2 import OrderFact, OrderPlaced

from services.groups.domain import events
from services.groups.domain.closing import release_seat
from services.groups.domain.command import Item
from services.groups.domain.model import CANCEL_REFUSED, OrderStatus, Phase, State
from services.groups.domain.terms import MAX_SEATS, Terms, freeze, problems, terms_of

#: Limit of the waitlist. It keeps the decision that releases all of its orders small.
MAX_WAITLIST = MAX_SEATS

#: Reason to refuse an order by the phase of the closed group.
CLOSED_AS = {
    Phase.COMPLETED: pb.REFUSAL_REASON_GROUP_COMPLETED,
    Phase.EXPIRED: pb.REFUSAL_REASON_GROUP_EXPIRED,
    Phase.CANCELLED: pb.REFUSAL_REASON_GROUP_CANCELLED,
}
#: Reasons in the log that differ from the name of the status.
_CANCEL_REFUSED_REASONS = {OrderStatus.HOLD_DECLINED: "DECLINED", OrderStatus.CAPTURE_DECLINED: "FAILED"}


# Opening ------------------------------------------------------------------------------------------------------------


def open_group(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Opens the group for a leader's order: freezes the campaign's terms and gives the leader the first seat."""
    fact: OrderFact = item.message
    placed = fact.placed
    terms, reason = check_opening(placed, item.campaign)
    if terms is None:
        yield events.seat_refused(fact, reason)
        return
    yield events.opened(pb.Terms.FromString(terms.raw), fact, at_ms + terms.window_ms)
    yield _reserve(state, terms, item.order, fact.customer, placed, at_ms)


def check_opening(placed: OrderPlaced, campaign: Campaign | None) -> tuple[Terms | None, RefusalReason.ValueType]:
    """The terms that an order opens a group with, or None and the reason to refuse it."""
    if campaign is None:
        return None, pb.REFUSAL_REASON_CAMPAIGN_UNKNOWN
    if campaign.name.removeprefix("campaigns/") != placed.campaign:
        return None, pb.REFUSAL_REASON_CAMPAIGN_MISMATCH
    if campaign.archived:
        return None, pb.REFUSAL_REASON_CAMPAIGN_ARCHIVED
    terms = _freeze(campaign.SerializeToString(), placed.solo)
    if terms is None:
        return None, pb.REFUSAL_REASON_TERMS_INVALID
    reason = _check_terms(terms, placed)
    return (terms if reason is None else None), reason or pb.REFUSAL_REASON_UNSPECIFIED


@lru_cache(maxsize=1_024)
def _freeze(raw: bytes, solo: bool) -> Terms | None:
    """A campaign's frozen terms, or None if they are invalid. Cached, because many groups open with the same terms."""
    campaign = Campaign.FromString(raw)
    return None if problems(campaign) else terms_of(freeze(campaign, solo).SerializeToString())


def _check_terms(terms: Terms, placed: OrderPlaced) -> RefusalReason.ValueType | None:
    """The reason to refuse an order under these terms, or None."""
    if placed.currency != terms.currency:
        return pb.REFUSAL_REASON_CURRENCY_MISMATCH
    if not 1 <= placed.quantity <= terms.max_quantity:
        return pb.REFUSAL_REASON_QUANTITY
    if placed.max_unit_price_minor < terms.entry_price_minor:
        return pb.REFUSAL_REASON_PRICE_CHANGED
    return None


# Joining ------------------------------------------------------------------------------------------------------------


def join(state: State, item: Item, at_ms: int) -> Iterable[GroupEvent]:
    """Gives a joining order a seat or a place in the waitlist, or refuses it."""
    # Each field is read once, here and below: a read takes about as long as a function call.
    fact: OrderFact = item.message
    placed = fact.placed
    customer = fact.customer
    terms = state.frozen
    reason = check_join(state, terms, customer, placed)
    if reason is not None:
        return (events.seat_refused(fact, reason),)
    if state.seats_left > 0 and not state.waitlist:
        return (_reserve(state, terms, item.order, customer, placed, at_ms),)
    if terms.waitlist and len(state.waitlist) < MAX_WAITLIST:
        # A free seat goes to the waitlist first.
        return (events.seat_waitlisted(fact),)
    return (events.seat_refused(fact, pb.REFUSAL_REASON_GROUP_FULL),)


def check_join(state: State, terms: Terms, customer: str, placed: OrderPlaced) -> RefusalReason.ValueType | None:
    """The reason to refuse an order that joins, or None."""
    if terms.solo:
        return pb.REFUSAL_REASON_NOT_OPEN_TO_JOIN
    if placed.campaign != terms.campaign:
        return pb.REFUSAL_REASON_CAMPAIGN_MISMATCH
    reason = _check_terms(terms, placed)
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
    """Refuses a join before the group is opened. The leader's order, from which its id is derived, can still come."""
    yield events.seat_refused(item.message, pb.REFUSAL_REASON_GROUP_UNKNOWN)


def refuse_second_leader(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Refuses a second order that opens an opened group."""
    yield events.seat_refused(item.message, pb.REFUSAL_REASON_NOT_OPEN_TO_JOIN)


def refuse_closed(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Refuses a join after the group closed."""
    yield events.seat_refused(item.message, CLOSED_AS[state.phase])


def refuse_orphaned(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Refuses an order whose funds were returned before the order came: payments makes no hold for it any more."""
    yield events.seat_refused(item.message, pb.REFUSAL_REASON_CANCELLED)


def reject(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Refuses an order whose record can't be decoded."""
    yield events.order_refused(item.order, "", pb.REFUSAL_REASON_UNREADABLE)


# Leaving ------------------------------------------------------------------------------------------------------------


def cancel_unknown(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Records a cancel request that came before its order. The order is refused when it comes."""
    yield events.cancelled_before_arrival(item.message)


def cancel_seat(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Releases the seat of a cancelled order in a forming group."""
    return release_seat(state, item.order, pb.RELEASE_REASON_CANCELLED)


def cancel_waitlisted(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Removes a cancelled order from the waitlist. No hold was requested for it."""
    yield events.seat_released(item.order, pb.RELEASE_REASON_CANCELLED)


def refuse_cancel(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Refuses a late cancel request, once for each order."""
    order = item.order
    status = state.status(order)
    if status is OrderStatus.SETTLING:
        refused = state.confirmed[order].cancel_refused
    else:
        refused = bool(state.ended[order] & CANCEL_REFUSED)
    if not refused:
        yield events.cancel_refused(order, _CANCEL_REFUSED_REASONS.get(status, status.name))
