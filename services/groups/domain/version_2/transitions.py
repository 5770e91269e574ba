"""The transition tables of rules version 2: those of version 1, with other rules for joining, and rows for the answers
of stock items and allowances.
"""

from __future__ import annotations

from services.groups.domain.model import OrderStatus as S
from services.groups.domain.model import Phase as P
from services.groups.domain.model import State
from services.groups.domain.transitions import GROUP as GROUP_1
from services.groups.domain.transitions import ORDER as ORDER_1
from services.groups.domain.transitions import Row, index_of
from services.groups.domain.version_2 import joining, leaving, supply

_CLOSED = (P.COMPLETED, P.EXPIRED, P.CANCELLED)
_LOST = ("leader_changed", "expired")

#: Rows in place of those of version 1, and new rows, by the group's phase.
GROUP: tuple[Row, ...] = (
    Row((P.UNOPENED,), "opens", joining.open_group,
        ("opened", "seat_reserved", "seat_waitlisted", "admission_requested", "seat_refused"),
        (P.FORMING, P.UNOPENED), "NOT_STARTED or ENDED outside the sale. The deadline is not after the sale's end."),
    Row((P.FORMING,), "joins", joining.join,
        ("seat_reserved", "seat_waitlisted", "admission_requested", "seat_refused"), (P.FORMING,),
        "Waits for the customer's allowance if the campaign has a limit, and for pieces if the group has too few."),
    Row((P.FORMING,), "stock_answer", supply.on_stock_answer,
        ("units_granted", "units_denied", "units_returned", "seat_refused", *_LOST), (P.FORMING, P.EXPIRED),
        "Takes pieces; SOLD_OUT for the orders that wait for pieces if the group does not wait in line."),
    Row(_CLOSED, "stock_answer", supply.on_late_answer, ("units_granted", "units_returned"), (),
        "Gives late pieces back at once."),
)  # fmt: skip

#: Rows in place of those of version 1, and new rows, by the status of the order.
ORDER: tuple[Row, ...] = (
    Row((S.ADMITTING,), "admission_answer", joining.on_admission,
        ("seat_reserved", "seat_waitlisted", "seat_refused", *_LOST), (S.RESERVED, S.WAITLISTED, S.REFUSED),
        "LIMIT_REACHED if the order is beyond the customer's limit."),
    Row((S.ADMITTING,), "cancel_requested", leaving.cancel_admitting, ("seat_refused", *_LOST), (S.CANCELLED,),
        "CANCELLED."),
    Row((S.WAITLISTED,), "cancel_requested", leaving.cancel_waitlisted, ("seat_released", *_LOST), (S.CANCELLED,),
        "CANCELLED. A leader can wait for pieces."),
    Row((S.ADMITTING,), "hold_authorised", leaving.release_unexpected,
        ("seat_refused", "release_requested", *_LOST), (S.CANCELLED,), "NO_SEAT.", expected=False),
    Row((S.ADMITTING,), "captured", leaving.release_unexpected, ("seat_refused", "release_requested", *_LOST),
        (S.CANCELLED,), "NO_SEAT.", expected=False),
    Row((S.ADMITTING,), "payment_released", leaving.record_release,
        ("seat_refused", "member_released", *_LOST), (S.CANCELLED,), "Released before the admission.",
        expected=False),
)  # fmt: skip


def _with(before: tuple[Row, ...], rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows of version 1, except those of a state and an input that `rows` have."""
    replaced = {(state, row.on) for row in rows for state in row.when}
    kept = []
    for row in before:
        when = tuple(state for state in row.when if (state, row.on) not in replaced)
        if when:
            kept.append(Row(when, row.on, row.act, row.events, row.to, row.note, row.expected))  # type: ignore[arg-type]
    return (*kept, *rows)


ON_GROUP = index_of(_with(GROUP_1, GROUP), tuple(P))
ON_ORDER = index_of(_with(ORDER_1, ORDER), tuple(S))
_UNKNOWN = S.UNKNOWN


def find(state: State, kind: str, order: str) -> Row | None:
    """The row of an input, or None if the input changes nothing."""
    status = state.status(order)
    row = ON_ORDER[status].get(kind)
    if row is None and status is _UNKNOWN:
        return ON_GROUP[state.phase].get(kind)
    return row
