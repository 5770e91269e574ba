"""Rules version 1: from a state, an input and the time to events. The order of things is here, the rules are beside it.

What fell due by the input's time happens before the input is looked at; so a payment in the very millisecond of a
deadline finds the group closed, and to complete and to expire can't race. Each event is applied before the next line
of any rule runs. Must never read a clock, change the state, or walk over seats without emitting something for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from groupbuy.groups.v1.decisions_pb2 import GroupEvent

from services.groups.domain.command import Command, Item
from services.groups.domain.model import Phase, State
from services.groups.domain.transitions import ON_GROUP, find

#: Seats given to the waitlist in one go; the next tick goes on. A reservation can take 1.5 KB, and a decision must stay
#: below 512 KiB even where all of 2,000 seats fall free in one millisecond.
PROMOTIONS_BATCH = 64
#: Looking a member up in its enumeration takes as long as the rest of `due`, which runs after each decision.
_FORMING = Phase.FORMING


@dataclass(frozen=True, slots=True)
class Rules:
    """One version of the rules."""

    decide: Callable[[State, Command, int], Iterable[GroupEvent]]
    fault: Callable[[State, str], Iterable[GroupEvent]]
    due: Callable[[State], int | None]


def decide(state: State, command: Command, at_ms: int) -> Iterable[GroupEvent]:
    """Events of one input."""
    items = command.items
    if len(items) != 1 or (state.phase is _FORMING and (state.waiting or _next_ms(state) <= at_ms)):
        return _in_turn(state, items, at_ms)
    # Most inputs: a single thing to react to, and no event but its own, so that no generator need stand around its own.
    # Nothing is due and nobody waits; and who is put on the waitlist by this finds no free seat to be given.
    item = items[0]
    row = find(state, item.kind, item.order)
    return () if row is None else row.act(state, item, at_ms)


def _in_turn(state: State, items: Sequence[Item], at_ms: int) -> Iterator[GroupEvent]:
    """What is due, then each item, then what it set free."""
    due_ms = due(state)
    if due_ms is not None and due_ms <= at_ms:
        yield from _fall_due(state, at_ms)
        yield from _fill_seats(state, at_ms)
    for item in items:
        row = find(state, item.kind, item.order)
        if row is not None:
            yield from row.act(state, item, at_ms)
    if state.waiting and items:
        yield from _fill_seats(state, at_ms)


def fault(state: State, error: str) -> Iterable[GroupEvent]:
    """Events for when a rule raised."""
    return ON_GROUP[state.phase]["rules failed"].act(state, error, 0)


def due(state: State) -> int | None:
    """When the state changes by itself next; None: never. In the past where the waitlist is still being seated."""
    if state.phase is not _FORMING:
        return None
    if state.waiting and state.seats_left > 0:
        return state.seated_ms
    return _next_ms(state)


def _next_ms(state: State) -> int:
    """When time does something to a forming group: a reservation falls due, or the deadline."""
    deadline_ms = state.deadline_ms
    for seat in state.reserved.values():
        # A seat is never kept beyond the deadline; one that ends with it is let go by the closing itself.
        return seat.until_ms if seat.until_ms < deadline_ms else deadline_ms
    return deadline_ms


def _fall_due(state: State, at_ms: int) -> Iterator[GroupEvent]:
    rows = ON_GROUP[Phase.FORMING]
    while state.phase is Phase.FORMING:
        due_ms = _next_ms(state)
        if due_ms > at_ms:
            return
        kind = "reservation due" if due_ms < state.deadline_ms else "deadline due"
        yield from rows[kind].act(state, None, at_ms)


def _fill_seats(state: State, at_ms: int) -> Iterator[GroupEvent]:
    row = ON_GROUP[Phase.FORMING]["seat free"]
    for _ in range(PROMOTIONS_BATCH):
        if not state.waiting or state.seats_left <= 0:
            return
        yield from row.act(state, None, at_ms)


VERSION_1 = Rules(decide, fault, due)
