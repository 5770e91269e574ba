"""Rules version 2: version 1 with stock, a limit per customer, and times of start and end.

The order of the steps is that of version 1: due timers, each item, then the waitlist. At the end of every decision,
`supply.balance` reports, asks for and gives back pieces and allowances.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from groupbuy.groups.v1.decisions_pb2 import GroupEvent

from services.groups.domain.command import Command
from services.groups.domain.decide import PROMOTIONS_BATCH, Rules, fire_due_timers, next_ms
from services.groups.domain.model import Phase, State
from services.groups.domain.version_2.supply import balance, has_pieces, left_to_return
from services.groups.domain.version_2.transitions import ON_GROUP, find


def decide(state: State, command: Command, at_ms: int) -> Iterator[GroupEvent]:
    """Events of one input."""
    due_ms = due(state)
    if due_ms is not None and due_ms <= at_ms:
        yield from fire_due_timers(state, at_ms)
        yield from _seat_waitlist(state, at_ms)
    for item in command.items:
        row = find(state, item.kind, item.order)
        if row is not None:
            yield from row.act(state, item, at_ms)
    yield from _seat_waitlist(state, at_ms)
    yield from balance(state)


def fault(state: State, error: str) -> Iterable[GroupEvent]:
    """Events for an error that a rule raised. A group that it closes gives its pieces and allowances back."""
    yield from ON_GROUP[state.phase]["rules failed"].act(state, error, 0)
    yield from balance(state)


def due(state: State) -> int | None:
    """Time of the next timer in milliseconds since the epoch, or None. In the past while a decision has no room."""
    if state.terms is None:
        return None
    if left_to_return(state) or _can_seat_first(state):
        return max(state.seated_ms, state.opened_ms)
    return next_ms(state) if state.phase is Phase.FORMING else None


def _can_seat_first(state: State) -> bool:
    """Whether the first order of the waitlist can have a seat now. Later orders wait behind it."""
    if state.phase is not Phase.FORMING or state.seats_left <= 0:
        return False
    for entry in state.waitlist.values():
        return has_pieces(state, entry.quantity)
    return False


def _seat_waitlist(state: State, at_ms: int) -> Iterator[GroupEvent]:
    row = ON_GROUP[Phase.FORMING]["seat free"]
    for _ in range(PROMOTIONS_BATCH):
        if not _can_seat_first(state):
            return
        yield from row.act(state, None, at_ms)


VERSION_2 = Rules(decide, fault, due)
