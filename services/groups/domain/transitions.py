"""The transitions of a group and of its orders, as data. decide looks up here what to do; people read it, and the page
of the architecture is made from it.

An input first finds the row of its order's standing; an order that is not known yet, and what is about the group, find
the row of the group's phase. No row: nothing happens, and nothing is recorded. Must never hold a rule: those stand in
closing.py, orders.py and money.py.
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

#: (state, item, time in milliseconds) -> events. What time itself brings has no item.
Action = Callable[[State, Any, int], Iterable[GroupEvent]]


@dataclass(frozen=True, slots=True)
class Row:
    """In any of these states, this input leads to some of these events and to one of those states."""

    when: tuple[P, ...] | tuple[S, ...]
    on: str
    act: Action
    events: tuple[str, ...]
    to: tuple[P, ...] | tuple[S, ...]
    note: str
    #: False: a sound system never sends this here; it is answered all the same.
    expected: bool = True


_SEATED = (S.RESERVED, S.CONFIRMED)
_GONE = (S.REFUSED, S.CANCELLED, S.LAPSED, S.DECLINED, S.RELEASED)
_EXIT = ("seat_released", "release_requested", "leader_changed", "expired")
_CLOSING = ("leader_changed", "completed", "settlement_requested", "expired", "seat_released", "release_requested")

#: By the group's phase.
GROUP: tuple[Row, ...] = (
    Row((P.UNOPENED,), "opens", order.open_group, ("opened", "seat_reserved", "seat_refused"),
        (P.FORMING, P.UNOPENED), "Terms frozen, leader seated; or refused, and the group never was."),
    Row((P.UNOPENED,), "joins", order.refuse_unknown_group, ("seat_refused",), (P.UNOPENED,), "GROUP_UNKNOWN."),
    Row((P.FORMING,), "joins", order.join, ("seat_reserved", "seat_waitlisted", "seat_refused"), (P.FORMING,),
        "A seat, the waitlist, or a refusal with its reason."),
    Row((P.FORMING,), "reservation due", closing.lapse, _EXIT, (P.FORMING, P.EXPIRED),
        "reserved_until_ms <= now, and before the deadline: LAPSED. A solo purchase ends with its seat."),
    Row((P.FORMING,), "seat free", closing.promote, ("seat_reserved",), (P.FORMING,),
        "Before the deadline, the first in the waitlist."),
    Row((P.FORMING,), "deadline due", closing.reach_deadline, _CLOSING, (P.COMPLETED, P.EXPIRED),
        "deadline_ms <= now: first tier reached, or filled up by the house: completed; else expired."),
    Row((P.FORMING,), "cancel_group", closing.cancel_group, ("cancelled", "seat_released", "release_requested"),
        (P.CANCELLED,), "All are let go."),
    Row((P.FORMING, P.COMPLETED, P.EXPIRED, P.CANCELLED), "opens", order.refuse_second_leader, ("seat_refused",), (),
        "NOT_OPEN_TO_JOIN.", expected=False),
    Row((P.COMPLETED, P.EXPIRED, P.CANCELLED), "joins", order.refuse_closed, ("seat_refused",), (),
        "GROUP_COMPLETED, GROUP_EXPIRED or GROUP_CANCELLED."),
    Row((P.FORMING,), "rules failed", closing.fault_forming,
        ("faulted", "cancelled", "seat_released", "release_requested"), (P.CANCELLED,), "FAULTED, with an alarm.",
        expected=False),
    Row((P.UNOPENED, P.COMPLETED, P.EXPIRED, P.CANCELLED), "rules failed", closing.fault, ("faulted",), (),
        "An alarm; the group stays as it is.", expected=False),
)  # fmt: skip

#: By the order's standing.
ORDER: tuple[Row, ...] = (
    Row((S.UNKNOWN,), "cancel_requested", order.cancel_unseen, ("seat_refused",), (S.CANCELLED,),
        "The cancel overtook its order: CANCELLED."),
    Row((S.UNKNOWN,), "order_rejected", order.reject, ("seat_refused",), (S.REFUSED,), "UNREADABLE."),
    Row((S.WAITLISTED,), "cancel_requested", order.cancel_waiting, ("seat_released",), (S.CANCELLED,), "CANCELLED."),
    Row(_SEATED, "cancel_requested", order.cancel_seat, _EXIT, (S.CANCELLED,),
        "CANCELLED; a leader hands over to the earliest confirmed member."),
    Row((S.SETTLING, S.SETTLED, S.FAILED, S.REFUSED, S.LAPSED, S.DECLINED, S.RELEASED), "cancel_requested",
        order.refuse_cancel, ("cancel_refused",), (), "Too late; said once."),

    Row((S.RESERVED,), "hold_authorised", payment.confirm,
        ("member_confirmed", "tier_reached", "completed", "settlement_requested", *_EXIT),
        (S.CONFIRMED, S.SETTLING, S.RELEASED), "A member; the last one completes the group. HOLD_TOO_SHORT if unfit."),
    Row((S.RESERVED,), "hold_declined", payment.decline, ("seat_released", "leader_changed", "expired"), (S.DECLINED,),
        "DECLINED; nothing to send back."),
    Row((S.SETTLING,), "captured", payment.settle, ("member_settled", "settled"), (S.SETTLED,), "Charged."),
    Row((S.SETTLING,), "capture_declined", payment.fail, ("member_failed", "settled"), (S.FAILED,), "Not charged."),
    Row((S.SETTLING,), "hold_declined", payment.fail, ("member_failed", "settled"), (S.FAILED,),
        "The hold had lapsed and was not renewed."),
    Row((*_GONE, S.FAILED), "hold_authorised", payment.return_funds, ("release_requested",), (), "NO_SEAT; once."),
    Row((*_GONE, S.FAILED), "payment_released", payment.release, ("member_released",), (), "Once."),

    Row((S.UNKNOWN, S.ORPHANED), "hold_authorised", payment.return_funds, ("release_requested",), (S.ORPHANED,),
        "NO_SEAT; once.", expected=False),
    Row((S.UNKNOWN, S.ORPHANED), "captured", payment.return_funds, ("release_requested",), (S.ORPHANED,),
        "NO_SEAT; once.", expected=False),
    Row((*_GONE, S.FAILED), "captured", payment.return_funds, ("release_requested",), (), "NO_SEAT; once.",
        expected=False),
    Row((S.ORPHANED,), "payment_released", payment.release, ("member_released",), (), "Once.", expected=False),
    Row((S.ORPHANED,), "opens", order.refuse_orphaned, ("seat_refused",), (S.CANCELLED,), "CANCELLED.", expected=False),
    Row((S.ORPHANED,), "joins", order.refuse_orphaned, ("seat_refused",), (S.CANCELLED,), "CANCELLED.", expected=False),
    Row((S.WAITLISTED,), "hold_authorised", payment.unseat, _EXIT, (S.RELEASED,), "NO_SEAT.", expected=False),
    Row((S.WAITLISTED, *_SEATED), "captured", payment.unseat, _EXIT, (S.RELEASED,), "NO_SEAT.", expected=False),
    Row((S.RESERVED,), "capture_declined", payment.decline, ("seat_released", "leader_changed", "expired"),
        (S.DECLINED,), "DECLINED.", expected=False),
    Row((S.CONFIRMED,), "hold_declined", payment.lose, _EXIT, (S.DECLINED,), "DECLINED.", expected=False),
    Row((S.CONFIRMED,), "capture_declined", payment.lose, _EXIT, (S.DECLINED,), "DECLINED.", expected=False),
    Row((S.WAITLISTED, *_SEATED), "payment_released", payment.withdraw, (*_EXIT, "member_released"), (S.DECLINED,),
        "DECLINED.", expected=False),
    Row((S.SETTLING,), "payment_released", payment.fail_released, ("member_failed", "member_released", "settled"),
        (S.FAILED,), "Let go instead of charged.", expected=False),
)  # fmt: skip


#: What an order goes through without an input of its own, for the diagram.
_CONSEQUENCES: tuple[tuple[str, str, str], ...] = (
    ("UNKNOWN", "seat reserved", "RESERVED"),
    ("UNKNOWN", "waitlisted", "WAITLISTED"),
    ("UNKNOWN", "refused", "REFUSED"),
    ("WAITLISTED", "seat free", "RESERVED"),
    ("RESERVED", "reservation due", "LAPSED"),
    ("CONFIRMED", "group completed", "SETTLING"),
    *((live, "group closed", "RELEASED") for live in ("WAITLISTED", "RESERVED", "CONFIRMED")),
)


def _index(rows: Sequence[Row], states: Sequence[P] | Sequence[S]) -> list[dict[str, Row]]:
    index: list[dict[str, Row]] = [{} for _ in states]
    for row in rows:
        for state in row.when:
            if row.on in index[state]:
                raise ValueError(f"two rows for {state.name} and {row.on}")
            index[state][row.on] = row
    return index


#: Rows by state and input: ON_GROUP[phase][input], ON_ORDER[standing][input].
ON_GROUP = _index(GROUP, tuple(P))
ON_ORDER = _index(ORDER, tuple(S))
_UNKNOWN = S.UNKNOWN


def find(state: State, kind: str, order: str) -> Row | None:
    """The row for an input; None: it changes nothing."""
    standing = state.standing(order)
    row = ON_ORDER[standing].get(kind)
    if row is None and standing is _UNKNOWN:
        return ON_GROUP[state.phase].get(kind)
    return row


def table() -> str:
    """All of it in Markdown, with state diagrams in Mermaid."""
    parts = [
        "### Group",
        _diagram(P.UNOPENED.name, [*_arrows(GROUP), ("FORMING", "last seat confirmed", "COMPLETED")]),
        _markdown(GROUP, "phase"),
        "### Order",
        _diagram(S.UNKNOWN.name, [*_CONSEQUENCES, *_arrows(ORDER)]),
        _markdown(ORDER, "standing"),
        "An input that finds no row changes nothing. Rows marked † are for what a sound system never sends.",
    ]
    return "\n\n".join(parts) + "\n"


def _markdown(rows: Sequence[Row], state: str) -> str:
    lines = [f"| {state} | input | events | next | |", "|-|-|-|-|-|"]
    for row in rows:
        when = ", ".join(one.name for one in row.when)
        to = ", ".join(one.name for one in row.to) or "same"
        mark = "" if row.expected else " †"
        lines.append(f"| {when} | {row.on}{mark} | {', '.join(row.events)} | {to} | {row.note} |")
    return "\n".join(lines)


def _arrows(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """(from, input, to) of what a sound system does."""
    return [(when.name, row.on, to.name) for row in rows if row.expected for when in row.when for to in row.to]


def _diagram(start: str, arrows: Sequence[tuple[str, str, str]]) -> str:
    labels: dict[tuple[str, str], list[str]] = {}
    for when, on, to in arrows:
        if when != to:
            labels.setdefault((when, to), []).append(on)
    lines = [f"    {when} --> {to}: {', '.join(on)}" for (when, to), on in labels.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {start}", *lines, "```"])
