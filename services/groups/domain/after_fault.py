"""The answers to the orders of an input on which the rules raised an error, in every version of the rules.

No later input repeats this one. Without an answer here, an order would be pending for ever, its money would stay held,
and the alarm would have no end, above all in a group that was never opened: it has no deadline and can't be cancelled.
"""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.groups.v1.decisions_pb2 import (
    REFUSAL_REASON_GROUP_CANCELLED,
    REFUSAL_REASON_UNREADABLE,
    RELEASE_REASON_NO_SEAT,
    GroupEvent,
)

from services.groups.domain import events
from services.groups.domain.command import Command, Item
from services.groups.domain.model import RELEASE_DONE, RELEASE_REQUESTED, OrderStatus, Phase, State

_UNKNOWN = OrderStatus.UNKNOWN
#: An order without an answer. The second is known from a payment alone.
_UNANSWERED = frozenset({_UNKNOWN, OrderStatus.ORPHANED})


def answers(state: State, command: Command) -> Iterator[GroupEvent]:
    """Events that give each order of the input its end, and request the return of money without a seat."""
    for item in command.items:
        yield from _answer(state, item)


def _answer(state: State, item: Item) -> Iterator[GroupEvent]:
    order, status = item.order, state.status(item.order)
    flags = state.ended.get(order, 0)
    match item.kind:
        case "opens" | "joins" if status in _UNANSWERED:
            forming = state.phase is Phase.FORMING
            # A forming group is cancelled by the fault.
            yield events.seat_refused(
                item.message, REFUSAL_REASON_GROUP_CANCELLED if forming else REFUSAL_REASON_UNREADABLE
            )
        case "order_rejected" if status is _UNKNOWN:
            yield events.order_refused(order, "", REFUSAL_REASON_UNREADABLE)
        case "cancel_requested" if status is _UNKNOWN:
            yield events.cancelled_before_arrival(item.message)
        case "hold_authorised" | "captured" if (
            (flags or status is _UNKNOWN) and status is not OrderStatus.SETTLED and not flags & RELEASE_REQUESTED
        ):
            yield events.release_requested(order, RELEASE_REASON_NO_SEAT)
        case "payment_released" if flags and not flags & RELEASE_DONE:
            yield events.member_released(order)
