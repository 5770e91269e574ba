"""The transition tables of groups and of their orders. decide.py looks up each input here, and docs/transitions.md is
generated from the same tables.

An input is looked up by the status of its order. An input of an unknown order without such a row, or of the group, is
looked up by the phase of the group. An input without a row changes nothing and is not recorded. The rules themselves
are in closing.py, on_order_event.py and on_payment_event.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupEvent

from services.groups.domain import closing
from services.groups.domain import on_order_event as order
from services.groups.domain import on_payment_event as payment
from services.groups.domain.model import OrderStatus as S
from services.groups.domain.model import Phase as P
from services.groups.domain.model import State

#: (state, item, time in milliseconds) -> events. The item of a timer is None.
Action = Callable[[State, Any, int], Iterable[GroupEvent]]


@dataclass(frozen=True, slots=True)
class Row:
    """One transition: in each state of `when`, the input `on` leads to some of `events` and to one state of `to`."""

    when: tuple[P, ...] | tuple[S, ...]
    on: str
    act: Action
    events: tuple[str, ...]
    to: tuple[P, ...] | tuple[S, ...]
    note: str
    #: False if the input can only come from a fault or a forged record. The rules handle it nevertheless.
    expected: bool = True


_SEATED = (S.RESERVED, S.CONFIRMED)
_ENDED = (S.REFUSED, S.CANCELLED, S.LAPSED, S.HOLD_DECLINED, S.RELEASED)
_KNOWN = tuple(one for one in S if one is not S.UNKNOWN)
_EXIT = ("seat_released", "release_requested", "leader_changed", "expired")
_CLOSING = ("leader_changed", "completed", "settlement_requested", "expired", "seat_released", "release_requested")

#: By the group's phase.
GROUP: tuple[Row, ...] = (
    Row((P.UNOPENED,), "opens", order.open_group, ("opened", "seat_reserved", "seat_refused"),
        (P.FORMING, P.UNOPENED), "Freezes the terms and gives the leader a seat, or refuses the order."),
    Row((P.UNOPENED,), "joins", order.refuse_unknown_group, ("seat_refused",), (P.UNOPENED,), "GROUP_UNKNOWN."),
    Row((P.FORMING,), "joins", order.join, ("seat_reserved", "seat_waitlisted", "seat_refused"), (P.FORMING,),
        "Gives a seat or a place in the waitlist, or refuses with a reason."),
    Row((P.FORMING,), "reservation due", closing.lapse, _EXIT, (P.FORMING, P.EXPIRED),
        "reserved_until_ms <= now, before the deadline. LAPSED. A solo purchase expires with its seat."),
    Row((P.FORMING,), "seat free", closing.promote, ("seat_reserved",), (P.FORMING,),
        "Before the deadline: seats the first order of the waitlist."),
    Row((P.FORMING,), "deadline due", closing.reach_deadline, _CLOSING, (P.COMPLETED, P.EXPIRED),
        "deadline_ms <= now. Completes if the first tier is reached or virtual completion applies, else expires."),
    Row((P.FORMING,), "cancel_group", closing.cancel_group, ("cancelled", "seat_released", "release_requested"),
        (P.CANCELLED,), "Releases all orders."),
    Row((P.FORMING, P.COMPLETED, P.EXPIRED, P.CANCELLED), "opens", order.refuse_second_leader, ("seat_refused",), (),
        "NOT_OPEN_TO_JOIN.", expected=False),
    Row((P.COMPLETED, P.EXPIRED, P.CANCELLED), "joins", order.refuse_closed, ("seat_refused",), (),
        "GROUP_COMPLETED, GROUP_EXPIRED or GROUP_CANCELLED."),
    Row((P.FORMING,), "rules failed", closing.fault_forming,
        ("faulted", "cancelled", "seat_released", "release_requested"), (P.CANCELLED,), "FAULTED. Raises an alarm.",
        expected=False),
    Row((P.UNOPENED, P.COMPLETED, P.EXPIRED, P.CANCELLED), "rules failed", closing.fault, ("faulted",), (),
        "Raises an alarm; the group keeps its state.", expected=False),
)  # fmt: skip

#: By the status of the order.
ORDER: tuple[Row, ...] = (
    Row((S.UNKNOWN,), "cancel_requested", order.cancel_unknown, ("seat_refused",), (S.CANCELLED,),
        "CANCELLED. The request came before its order."),
    Row((S.UNKNOWN,), "order_rejected", order.reject, ("seat_refused",), (S.REFUSED,), "UNREADABLE."),
    Row((S.WAITLISTED,), "cancel_requested", order.cancel_waitlisted, ("seat_released",), (S.CANCELLED,), "CANCELLED."),
    Row(_SEATED, "cancel_requested", order.cancel_seat, _EXIT, (S.CANCELLED,),
        "CANCELLED. The earliest confirmed member succeeds a leader."),
    Row((S.SETTLING, S.SETTLED, S.CAPTURE_DECLINED, S.REFUSED, S.LAPSED, S.HOLD_DECLINED, S.RELEASED),
        "cancel_requested", order.refuse_cancel, ("cancel_refused",), (), "Too late. Once for each order."),

    Row((S.RESERVED,), "hold_authorised", payment.confirm,
        ("member_confirmed", "tier_reached", "completed", "settlement_requested", *_EXIT),
        (S.CONFIRMED, S.SETTLING, S.RELEASED),
        "Confirms the member; the last seat completes the group. HOLD_TOO_SHORT if the hold does not suffice."),
    Row((S.RESERVED,), "hold_declined", payment.decline, ("seat_released", "leader_changed", "expired"),
        (S.HOLD_DECLINED,), "DECLINED. No funds to return."),
    Row((S.CONFIRMED,), "hold_lost", payment.lose_hold, _EXIT, (S.RELEASED,),
        "HOLD_LOST. The hold ended while the group forms; the member does not count any more."),
    Row((S.SETTLING,), "captured", payment.settle, ("member_settled", "settled"), (S.SETTLED,), "Charged."),
    Row((S.SETTLING,), "capture_declined", payment.decline_capture, ("member_declined", "settled"),
        (S.CAPTURE_DECLINED,), "Not charged."),
    Row((S.SETTLING,), "hold_declined", payment.decline_capture, ("member_declined", "settled"), (S.CAPTURE_DECLINED,),
        "The hold had lapsed, and its renewal was declined."),
    Row((*_ENDED, S.CAPTURE_DECLINED), "hold_authorised", payment.return_funds, ("release_requested",), (),
        "NO_SEAT. Once for each order."),
    Row((*_ENDED, S.CAPTURE_DECLINED), "payment_released", payment.record_release, ("member_released",), (),
        "Once for each order."),
    Row(_KNOWN, "money_owed", payment.note_owed, ("member_owed",), (),
        "A sum became owed, or is not any more. A group is not done while one is owed."),

    Row((S.UNKNOWN, S.ORPHANED), "hold_authorised", payment.return_funds, ("release_requested",), (S.ORPHANED,),
        "NO_SEAT. Once for each order.", expected=False),
    Row((S.UNKNOWN, S.ORPHANED), "captured", payment.return_funds, ("release_requested",), (S.ORPHANED,),
        "NO_SEAT. Once for each order.", expected=False),
    Row((*_ENDED, S.CAPTURE_DECLINED), "captured", payment.return_funds, ("release_requested",), (),
        "NO_SEAT. Once for each order.", expected=False),
    Row((S.ORPHANED,), "payment_released", payment.record_release, ("member_released",), (), "Once for each order.",
        expected=False),
    Row((S.ORPHANED,), "opens", order.refuse_orphaned, ("seat_refused",), (S.CANCELLED,), "CANCELLED.", expected=False),
    Row((S.ORPHANED,), "joins", order.refuse_orphaned, ("seat_refused",), (S.CANCELLED,), "CANCELLED.", expected=False),
    Row((S.WAITLISTED,), "hold_authorised", payment.release_unexpected, _EXIT, (S.RELEASED,), "NO_SEAT.",
        expected=False),
    Row((S.WAITLISTED, *_SEATED), "captured", payment.release_unexpected, _EXIT, (S.RELEASED,), "NO_SEAT.",
        expected=False),
    Row((S.RESERVED,), "capture_declined", payment.decline, ("seat_released", "leader_changed", "expired"),
        (S.HOLD_DECLINED,), "DECLINED.", expected=False),
    Row((S.CONFIRMED,), "hold_declined", payment.decline_confirmed, _EXIT, (S.HOLD_DECLINED,), "DECLINED.",
        expected=False),
    Row((S.CONFIRMED,), "capture_declined", payment.decline_confirmed, _EXIT, (S.HOLD_DECLINED,), "DECLINED.",
        expected=False),
    Row((S.WAITLISTED, *_SEATED), "payment_released", payment.release_unfunded, (*_EXIT, "member_released"),
        (S.HOLD_DECLINED,), "DECLINED.", expected=False),
    Row((S.SETTLING,), "payment_released", payment.decline_released, ("member_declined", "member_released", "settled"),
        (S.CAPTURE_DECLINED,), "Released instead of charged.", expected=False),
)  # fmt: skip


#: Transitions of an order without an input of its own, for the diagram.
_INDIRECT: tuple[tuple[str, str, str], ...] = (
    ("UNKNOWN", "seat reserved", "RESERVED"),
    ("UNKNOWN", "waitlisted", "WAITLISTED"),
    ("UNKNOWN", "refused", "REFUSED"),
    ("WAITLISTED", "seat free", "RESERVED"),
    ("RESERVED", "reservation due", "LAPSED"),
    ("CONFIRMED", "group completed", "SETTLING"),
    *((live, "group closed", "RELEASED") for live in ("WAITLISTED", "RESERVED", "CONFIRMED")),
)


def index_of(rows: Sequence[Row], states: Sequence[P] | Sequence[S]) -> list[dict[str, Row]]:
    """Rows by state and input. Raises ValueError if two rows have the same."""
    index: list[dict[str, Row]] = [{} for _ in states]
    for row in rows:
        for state in row.when:
            if row.on in index[state]:
                raise ValueError(f"two rows for state {state.name} and input {row.on}")
            index[state][row.on] = row
    return index


#: Rows by state and input: ON_GROUP[phase][input], ON_ORDER[status][input].
ON_GROUP = index_of(GROUP, tuple(P))
ON_ORDER = index_of(ORDER, tuple(S))
_UNKNOWN = S.UNKNOWN


def find(state: State, kind: str, order: str) -> Row | None:
    """The row of an input, or None if the input changes nothing."""
    status = state.status(order)
    row = ON_ORDER[status].get(kind)
    if row is None and status is _UNKNOWN:
        return ON_GROUP[state.phase].get(kind)
    return row


def table() -> str:
    """Both tables in Markdown, with state diagrams in Mermaid."""
    parts = [
        "### Group",
        _diagram(P.UNOPENED.name, [*_arrows(GROUP), ("FORMING", "last seat confirmed", "COMPLETED")]),
        _markdown(GROUP, "phase"),
        "### Order",
        _diagram(S.UNKNOWN.name, [*_INDIRECT, *_arrows(ORDER)]),
        _markdown(ORDER, "status"),
        "An input without a row changes nothing. Inputs marked † can only come from a fault or a forged record. "
        "Capitals in a note are the reason in the events.",
    ]
    return "\n\n".join(parts) + "\n"


def _markdown(rows: Sequence[Row], state: str) -> str:
    lines = [f"| {state} | input | events | next | note |", "|-|-|-|-|-|"]
    for row in rows:
        when = ", ".join(one.name for one in row.when)
        to = ", ".join(one.name for one in row.to) or "same"
        mark = "" if row.expected else " †"
        lines.append(f"| {when} | {row.on}{mark} | {', '.join(row.events)} | {to} | {row.note} |")
    return "\n".join(lines)


def _arrows(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """(from, input, to) of the expected transitions."""
    return [(when.name, row.on, to.name) for row in rows if row.expected for when in row.when for to in row.to]


def _diagram(start: str, arrows: Sequence[tuple[str, str, str]]) -> str:
    labels: dict[tuple[str, str], list[str]] = {}
    for when, on, to in arrows:
        if when != to:
            labels.setdefault((when, to), []).append(on)
    lines = [f"    {when} --> {to}: {', '.join(on)}" for (when, to), on in labels.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {start}", *lines, "```"])
