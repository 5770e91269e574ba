"""Which rows of the payments' table are met. The purse never looks that table up, so its states are named here.

A row is met where an order is in its state, is told its input, and exactly what the row says comes of it. Must never
change a purse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupEvent
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome, RefundCommand

from services.payments.domain import domain
from services.payments.domain.decide import Input
from services.payments.domain.errors import Impossible
from services.payments.domain.model import GroupPayments, Payment, Record
from services.payments.domain.model_parts import Call, Intent
from services.payments.domain.transitions import INPUTS, SECOND_HOLD, STATES, events_after

#: A state and an input.
Row = tuple[str, str]
#: What each row leads to: names of events.
ROWS: dict[Row, list[str]] = {
    (state, told): list(found) for state in STATES for told in INPUTS if (found := events_after(state, told))
}
#: The table's names for the bodies of messages.
_NAMES = {
    field.name: "".join(part.capitalize() for part in field.name.split("_"))
    for message in (GroupEvent, PaymentEvent, ProviderOutcome)
    for field in message.DESCRIPTOR.oneofs[0].fields
}
_BODIES = {name: body for body, name in _NAMES.items()}
_LEADS_TO = {row: [_BODIES[name] for name in found] for row, found in ROWS.items()}
_CALLS = frozenset({"hold_requested", "capture_requested", "void_requested", "refund_requested", "call_retried"})
_OF_THE_GROUP = frozenset({"seat_reserved", "settlement_requested", "release_requested"})


@contextmanager
def counted_rows(count: Callable[[Row], None]) -> Iterator[None]:
    """Counts each row that is met, wherever a purse decides."""
    module: Any = domain
    sound: Callable[[GroupPayments, Input, int], Iterator[PaymentEvent]] = module.decide

    def counting(purse: GroupPayments, command: Input, at_ms: int) -> Iterator[PaymentEvent]:
        rows = [one for one in _told(purse, command, at_ms) if one[1] in ROWS]
        decided = sound(purse, command, at_ms)
        if not rows:
            return decided
        return _heard(decided, rows[0][1], count) if len(rows) == 1 else _heard_of_all(decided, dict(rows), count)

    module.decide = counting
    try:
        yield
    finally:
        module.decide = sound


def _heard(decided: Iterator[PaymentEvent], row: Row, count: Callable[[Row], None]) -> Iterator[PaymentEvent]:
    """Hands events on; then counts the row, if they were all that it says."""
    said: list[Any] = []
    try:
        for event in decided:
            said.append(event.WhichOneof("body"))
            yield event
    except Impossible:
        said.append("faulted")
        raise
    finally:
        if _LEADS_TO[row] == said:
            count(row)


def _heard_of_all(
    decided: Iterator[PaymentEvent], rows: dict[str, Row], count: Callable[[Row], None]
) -> Iterator[PaymentEvent]:
    """The same for the orders of a decision of the group, each with events of its own."""
    said: dict[str, list[str]] = {order: [] for order in rows}
    try:
        for event in decided:
            kind = str(event.WhichOneof("body"))
            body: Any = getattr(event, kind)
            said.setdefault(body.call.order if kind in _CALLS else body.order, []).append(kind)
            yield event
    finally:
        for order, row in rows.items():
            if _LEADS_TO[row] == said[order]:
                count(row)


def _told(purse: GroupPayments, command: Input, at_ms: int) -> Iterable[tuple[str, Row]]:
    """The orders that an input is about, each with the row that it may meet."""
    orders = purse.orders
    if isinstance(command, ProviderOutcome):
        record = orders.get(command.order)
        return ((command.order, (state_of(record), _outcome(record, command))),)
    if isinstance(command, GroupDecision):
        told = []
        for event in command.events:
            kind = event.WhichOneof("body")
            if kind in _OF_THE_GROUP:
                order = getattr(event, kind).order
                told.append((order, (state_of(orders.get(order)), _NAMES[kind])))
        return told
    if isinstance(command, RefundCommand):
        return ((command.order, (state_of(orders.get(command.order)), "RefundCommand")),)
    due = purse.next_due(at_ms)
    return ((due[0], (state_of(due[1]), "Tick")),) if due is not None else ()


def _outcome(record: Record | None, outcome: ProviderOutcome) -> str:
    kind = str(outcome.WhichOneof("result"))
    asked = 1 if record is None else max(record.asks, 1)
    return SECOND_HOLD if kind == "authorised" and outcome.attempt > asked else _NAMES[kind]


# States -------------------------------------------------------------------------------------------------------------


def state_of(record: Record | None) -> str:
    """The state of an order's payment; empty: one that the table leaves out."""
    if record is None or record.intent is Intent.NONE:
        return "UNKNOWN"
    state, call = _STATES[record.intent](record, record if isinstance(record, Payment) else Payment())
    waits = call is not None and call.retry_at_ms > 0
    return "" if waits and STATES[state].under_way else state


def _hold(record: Record, payment: Payment) -> tuple[str, Call | None]:
    asking = payment.asking()
    prefix = "SALE_" if record.sale else ""
    if record.refused:
        return "DECLINED", None
    if asking is None:
        return "TAKEN" if record.sale else "LAPSED" if record.lapsed else "HELD", None
    if not asking.retry_at_ms:
        return f"{prefix}REQUESTED", asking
    if payment.action_url:
        return f"{prefix}CONFIRMING", asking
    return "" if record.sale else "WAITING", None


def _capture(record: Record, payment: Payment) -> tuple[str, Call | None]:
    ending = payment.ending(record.hold)
    if record.refused:
        return ("FAILING", ending) if ending is not None else ("", None)
    if record.captured:
        refund = next((call for call in payment.calls.values() if call.refund), None)
        return "CAPTURED" if refund is None else "REFUNDING", refund
    for state, call in (
        ("RENEWING", payment.asking()), ("CAPTURING", ending), ("SETTLING", payment.refunding(record.hold, ""))
    ):  # fmt: skip
        if call is not None:
            return state, call
    return "", None


def _release(record: Record, payment: Payment) -> tuple[str, Call | None]:
    if record.released:
        return "RELEASED", None
    for state, call in (
        ("RELEASING", payment.asking()),
        ("VOIDING", payment.ending(record.hold)),
        ("SALE_RETURNING" if record.sale else "RETURNING", payment.refunding(record.hold, "")),
    ):
        if call is not None:
            return state, call
    return "", None


_STATES = {Intent.HOLD: _hold, Intent.CAPTURE: _capture, Intent.RELEASE: _release}
