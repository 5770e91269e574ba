"""How an order opens or joins a group. Rules version 2: within the sale's times, the customer's limit, and the pieces
that the group has.

An order of a limited campaign first waits for the answer of the customer's allowance, which sees all groups of the
campaign. Only then is it seated, waitlisted or refused, so no money is held for an order beyond the limit.
"""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.decisions_pb2 import GroupEvent, RefusalReason
from groupbuy.groups.v1.inbox_pb2 import AdmissionAnswer
from groupbuy.orders.v1.facts_pb2 import OrderFact

from services.groups.domain import events as common
from services.groups.domain.command import Item
from services.groups.domain.model import Phase, State, WaitlistEntry
from services.groups.domain.on_order_event import CLOSED_AS, MAX_WAITLIST, check_join, check_opening
from services.groups.domain.terms import Terms
from services.groups.domain.version_2 import events
from services.groups.domain.version_2.leaving import refuse
from services.groups.domain.version_2.supply import has_pieces, supply_of


def open_group(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Opens the group for a leader's order. The group closes at the end of the sale at the latest."""
    fact: OrderFact = item.message
    terms, reason = check_opening(fact.placed, item.campaign)
    if terms is not None:
        reason = _outside_sale(terms, at_ms) or reason
    if terms is None or reason:
        yield common.seat_refused(fact, reason)
        return
    deadline_ms = at_ms + terms.window_ms
    if terms.end_ms:
        deadline_ms = min(deadline_ms, terms.end_ms)
    yield common.opened(pb.Terms.FromString(terms.raw), fact, deadline_ms)
    yield _place(state, terms, item.order, events.entry_of(fact), at_ms)


def join(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Gives a joining order a seat, or lets it wait for its admission, for pieces or for a seat, or refuses it."""
    fact: OrderFact = item.message
    terms = state.frozen
    reason = _outside_sale(terms, at_ms) or check_join(state, terms, fact.customer, fact.placed)
    if reason is None:
        yield _place(state, terms, item.order, events.entry_of(fact), at_ms)
    else:
        yield common.seat_refused(fact, reason)


def _outside_sale(terms: Terms, at_ms: int) -> RefusalReason.ValueType | None:
    if at_ms < terms.start_ms:
        return pb.REFUSAL_REASON_NOT_STARTED
    if terms.end_ms and at_ms >= terms.end_ms:
        return pb.REFUSAL_REASON_ENDED
    return None


def _place(state: State, terms: Terms, order: str, entry: WaitlistEntry, at_ms: int) -> GroupEvent:
    supply = supply_of(state)
    if not terms.limit_per_customer:
        return _seat(state, terms, order, entry, at_ms)
    if len(supply.admitting) + len(state.waitlist) >= MAX_WAITLIST or not _has_place(state, terms):
        return events.seat_refused(order, entry, pb.REFUSAL_REASON_GROUP_FULL)
    return events.admission_requested(terms, order, entry)


def _seat(state: State, terms: Terms, order: str, entry: WaitlistEntry, at_ms: int) -> GroupEvent:
    """A seat, a place in the waitlist, or a refusal because the group is full."""
    if state.seats_left > 0 and not state.waitlist and has_pieces(state, entry.quantity):
        return common.seat_for(terms, state.deadline_ms, order, entry, at_ms)
    if _has_place(state, terms):
        return events.seat_waitlisted(order, entry)
    return events.seat_refused(order, entry, pb.REFUSAL_REASON_GROUP_FULL)


def _has_place(state: State, terms: Terms) -> bool:
    """Whether an order may wait. Without a waitlist, only an order that has a free seat waits, for its pieces."""
    waiting = len(state.waitlist)
    return state.seats_left > waiting or (terms.waitlist and waiting < MAX_WAITLIST)


def on_admission(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Seats, waitlists or refuses an order whose allowance has answered."""
    answer: AdmissionAnswer = item.message
    order = item.order
    terms = state.frozen
    entry = supply_of(state).admitting[order]
    if not answer.admitted:
        reason: RefusalReason.ValueType | None = pb.REFUSAL_REASON_LIMIT_REACHED
    elif state.phase is not Phase.FORMING:
        # The group has closed meanwhile.
        reason = CLOSED_AS[state.phase]
    elif state.customers.get(entry.customer, 0) >= terms.seats_per_customer:
        # Another order of the customer was seated meanwhile.
        reason = pb.REFUSAL_REASON_ALREADY_MEMBER
    elif state.seats_left <= len(state.waitlist) and not _has_place(state, terms):
        reason = pb.REFUSAL_REASON_GROUP_FULL
    else:
        reason = None
    if reason is None:
        yield _seat(state, terms, order, entry, at_ms)
    else:
        yield from refuse(state, order, entry, reason)
