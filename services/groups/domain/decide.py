"""Rules version 1: a function from state, input and time to events. This module has the order of the steps; the rules
are in closing.py, on_order_event.py and on_payment_event.py.

Timers that are due at the input's time fire before the input. A payment in the millisecond of the deadline therefore
finds the group closed, and completion and expiry can't race. The caller applies each event before a rule continues.
The rules read no clock and do not change the state. They iterate over seats only to emit an event for each, so that a
decision takes time in proportion to its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from groupbuy.groups.v1.decisions_pb2 import GroupEvent

from services.groups.domain.command import Command, Item
from services.groups.domain.model import Phase, State
from services.groups.domain.transitions import ON_GROUP, find

#: Seats that one decision gives to the waitlist; the next tick continues. A reservation takes up to 1.5 KB, and a
#: decision has to stay below 512 KiB even if all 2,000 seats become free in one millisecond.
PROMOTIONS_BATCH = 64
#: A local copy: the lookup in the enumeration takes as long as the rest of `due`, which runs after each decision.
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
    if len(items) != 1 or (state.phase is _FORMING and (state.waitlist or next_ms(state) <= at_ms)):
        return _decide_in_order(state, items, at_ms)
    # Fast path of most inputs: one item, no timer due, nobody in the waitlist. It needs no generator around the rule's
    # own. An order that this item puts into the waitlist finds no free seat.
    item = items[0]
    row = find(state, item.kind, item.order)
    return () if row is None else row.act(state, item, at_ms)


def _decide_in_order(state: State, items: Sequence[Item], at_ms: int) -> Iterator[GroupEvent]:
    """Fires due timers, then decides each item, then gives free seats to the waitlist."""
    due_ms = due(state)
    if due_ms is not None and due_ms <= at_ms:
        yield from fire_due_timers(state, at_ms)
        yield from _seat_waitlist(state, at_ms)
    for item in items:
        row = find(state, item.kind, item.order)
        if row is not None:
            yield from row.act(state, item, at_ms)
    if state.waitlist and items:
        yield from _seat_waitlist(state, at_ms)


def fault(state: State, error: str) -> Iterable[GroupEvent]:
    """Events for an error that a rule raised."""
    return ON_GROUP[state.phase]["rules failed"].act(state, error, 0)


def due(state: State) -> int | None:
    """Time of the next timer in milliseconds since the epoch, or None. In the past while the waitlist is seated."""
    if state.phase is not _FORMING:
        return None
    if state.waitlist and state.seats_left > 0:
        return state.seated_ms
    return next_ms(state)


def next_ms(state: State) -> int:
    """Time of the first reservation's end, or of the deadline if that is earlier."""
    deadline_ms = state.deadline_ms
    for seat in state.reserved.values():
        # No seat outlasts the deadline. A seat that ends with it is released when the group closes.
        return seat.until_ms if seat.until_ms < deadline_ms else deadline_ms
    return deadline_ms


def fire_due_timers(state: State, at_ms: int) -> Iterator[GroupEvent]:
    """Releases lapsed reservations and reaches the deadline, in the order in which they were due."""
    rows = ON_GROUP[Phase.FORMING]
    while state.phase is Phase.FORMING:
        due_ms = next_ms(state)
        if due_ms > at_ms:
            return
        kind = "reservation due" if due_ms < state.deadline_ms else "deadline due"
        yield from rows[kind].act(state, None, at_ms)


def _seat_waitlist(state: State, at_ms: int) -> Iterator[GroupEvent]:
    row = ON_GROUP[Phase.FORMING]["seat free"]
    for _ in range(PROMOTIONS_BATCH):
        if not state.waitlist or state.seats_left <= 0:
            return
        yield from row.act(state, None, at_ms)


VERSION_1 = Rules(decide, fault, due)
