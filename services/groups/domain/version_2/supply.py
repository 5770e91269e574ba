"""How a group gets, sells and gives back pieces, and gives back allowances. Rules version 2.

A group seats an order only with pieces that it has. It asks its stock item for more when an order waits for them, and
has at most one request without an answer. `balance` runs at the end of every decision: it reports what is sold, asks
for what is missing, and gives back what a closed group does not need, however the group came to have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.decisions_pb2 import GroupEvent
from groupbuy.groups.v1.inbox_pb2 import StockAnswer

from services.groups.domain.command import Item
from services.groups.domain.model import Phase, State, Supply
from services.groups.domain.terms import Terms
from services.groups.domain.version_2 import events
from services.groups.domain.version_2.leaving import refuse

#: Allowances that one decision gives back; the next tick continues, so that a decision stays below 512 KiB.
RETURNS_BATCH = 400


def supply_of(state: State) -> Supply:
    """The pieces and allowances. Raises ValueError for a group of rules version 1."""
    if state.supply is None:
        raise ValueError("the group has no supply")
    return state.supply


def has_pieces(state: State, quantity: int) -> bool:
    """Whether the group has pieces for one more seat."""
    return not state.frozen.stock or supply_of(state).idle >= quantity


def on_stock_answer(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Takes pieces, or the answer that there are too few. Ignores a repeat."""
    answer: StockAnswer = item.message
    supply = supply_of(state)
    if answer.version <= supply.stock_version:
        return
    if answer.granted:
        scarce = supply.sold_out
        yield events.units_granted(answer)
        if scarce and not state.waitlist and not supply.admitting:
            # The order that asked has left, and other groups wait in line.
            yield events.units_returned(state.frozen, supply.idle, closed=False)
        return
    yield events.units_denied(answer)
    if not answer.queued:
        yield from _refuse_waiting(state, supply, answer.free)


def _refuse_waiting(state: State, supply: Supply, free: int) -> Iterator[GroupEvent]:
    """Refuses the waiting orders that need more than there is. The group asks again for the others."""
    for order, entry in tuple(state.waitlist.items()):
        if entry.quantity > supply.idle + free:
            yield from refuse(state, order, entry, pb.REFUSAL_REASON_SOLD_OUT)


def on_late_answer(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Takes pieces that came after the end of the group. `balance` gives them back in the same decision."""
    answer: StockAnswer = item.message
    if answer.granted and answer.version > supply_of(state).stock_version:
        yield events.units_granted(answer)


def balance(state: State) -> Iterator[GroupEvent]:
    """Reports, asks for and gives back pieces, and gives back allowances."""
    supply = state.supply
    if supply is None:
        return
    terms = state.frozen
    if terms.stock:
        yield from _balance_pieces(state, supply, terms)
    for order, customer in tuple(islice(supply.unreturned.items(), RETURNS_BATCH)):
        yield events.allowance_returned(terms, order, customer)


def _balance_pieces(state: State, supply: Supply, terms: Terms) -> Iterator[GroupEvent]:
    if supply.sold:
        yield events.units_sold(terms, supply.sold)
    if state.phase is not Phase.FORMING:
        closes = supply.ever_asked and not supply.closed
        if supply.idle or closes:
            yield events.units_returned(terms, supply.idle, closed=closes)
    elif not supply.asked and state.seats_left > 0:
        if state.waitlist:
            yield from _ask_for_waiting(state, supply, terms)
        elif terms.lease_ahead:
            yield from _ask_ahead(state, supply, terms)


def _ask_for_waiting(state: State, supply: Supply, terms: Terms) -> Iterator[GroupEvent]:
    lacking = next(iter(state.waitlist.values())).quantity - supply.idle
    # If it lacks none, it is seated by the next tick.
    if lacking > 0:
        seats = state.seats_left
        waiting = [entry.quantity for entry in islice(state.waitlist.values(), seats)]
        # One piece for each free seat that nobody waits for.
        later = seats - len(waiting)
        wanted = sum(waiting) - supply.idle
        ahead = min(terms.lease_ahead, later)
        yield events.units_requested(terms, lacking, wanted + ahead, wanted + later, queue=terms.waitlist)


def _ask_ahead(state: State, supply: Supply, terms: Terms) -> Iterator[GroupEvent]:
    """Asks for the next pieces before the last one is used, so that the next order does not wait for them.

    Not after the answer that there are too few, until an order waits: it finds out whether that is still so. A group
    with a waitlist would lose its place in the line to a request that nobody waits for, so it does not ask ahead.
    """
    ahead = min(terms.lease_ahead, state.seats_left)
    if supply.ever_asked and not supply.sold_out and not terms.waitlist and supply.idle * 2 < ahead:
        missing = ahead - supply.idle
        yield events.units_requested(terms, 1, missing, missing, queue=False)


def left_to_return(state: State) -> bool:
    """Whether a decision had no room for everything that `balance` has to give back."""
    return state.supply is not None and bool(state.supply.unreturned)
