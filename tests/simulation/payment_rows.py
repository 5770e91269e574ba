"""Counts which rows of the payments' table are reached. No decider looks that table up, so `decide` is wrapped.

A row is reached if an order is in its status, receives its input, and exactly the events of the row follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupEvent
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome, RefundCommand

from services.payments.domain import domain
from services.payments.domain.decide import Command
from services.payments.domain.errors import Impossible
from services.payments.domain.output.provider_calls import WITH_CALL
from services.payments.domain.state.model import GroupPayments, Record
from services.payments.domain.state.status import Status, status_and_call
from services.payments.domain.transitions import INPUTS, SECOND_HOLD, STATES, events_after

#: A status and an input.
Row = tuple[str, str]
#: What each row leads to: names of events.
ROWS: dict[Row, list[str]] = {
    (status, given): list(found) for status in STATES for given in INPUTS if (found := events_after(status, given))
}
#: The table's names for the bodies of messages.
_NAMES = {
    field.name: "".join(part.capitalize() for part in field.name.split("_"))
    for message in (GroupEvent, PaymentEvent, ProviderOutcome)
    for field in message.DESCRIPTOR.oneofs[0].fields
}
_BODIES = {name: body for body, name in _NAMES.items()}
_LEADS_TO = {row: [_BODIES[name] for name in found] for row, found in ROWS.items()}
_OF_THE_GROUP = frozenset({"seat_reserved", "settlement_requested", "release_requested"})


@contextmanager
def counted_rows(count: Callable[[Row], None]) -> Iterator[None]:
    """Counts each row that is reached, wherever payments are decided."""
    module: Any = domain
    sound: Callable[[GroupPayments, Command, int], Iterator[PaymentEvent]] = module.decide

    def counting(payments: GroupPayments, command: Command, at_ms: int) -> Iterator[PaymentEvent]:
        rows = [one for one in _rows_of(payments, command.body, at_ms) if one[1] in ROWS]
        decided = sound(payments, command, at_ms)
        if not rows:
            return decided
        return _count_one(decided, rows[0][1], count) if len(rows) == 1 else _count_each(decided, dict(rows), count)

    module.decide = counting
    try:
        yield
    finally:
        module.decide = sound


def _count_one(decided: Iterator[PaymentEvent], row: Row, count: Callable[[Row], None]) -> Iterator[PaymentEvent]:
    """Passes events on; then counts the row if they were exactly its events."""
    seen: list[Any] = []
    try:
        for event in decided:
            if not event.HasField("rules_selected"):
                seen.append(event.WhichOneof("body"))
            yield event
    except Impossible:
        seen.append("faulted")
        raise
    finally:
        if _LEADS_TO[row] == seen:
            count(row)


def _count_each(
    decided: Iterator[PaymentEvent], rows: dict[str, Row], count: Callable[[Row], None]
) -> Iterator[PaymentEvent]:
    """The same for the orders of a group decision, each with events of its own."""
    seen: dict[str, list[str]] = {order: [] for order in rows}
    try:
        for event in decided:
            kind = str(event.WhichOneof("body"))
            body: Any = getattr(event, kind)
            if kind == "rules_selected":
                yield event
                continue
            seen.setdefault(body.call.order if kind in WITH_CALL else body.order, []).append(kind)
            yield event
    finally:
        for order, row in rows.items():
            if _LEADS_TO[row] == seen[order]:
                count(row)


def _rows_of(payments: GroupPayments, command: Any, at_ms: int) -> Iterable[tuple[str, Row]]:
    """The orders that an input is about, each with the row that it may reach."""
    orders = payments.orders
    if isinstance(command, ProviderOutcome):
        record = orders.get(command.order)
        return ((command.order, (row_status(record), _result_name(record, command))),)
    if isinstance(command, GroupDecision):
        found = []
        for event in command.events:
            kind = event.WhichOneof("body")
            if kind in _OF_THE_GROUP:
                order = getattr(event, kind).order
                found.append((order, (row_status(orders.get(order)), _NAMES[kind])))
        return found
    if isinstance(command, RefundCommand):
        return ((command.order, (row_status(orders.get(command.order)), "RefundCommand")),)
    due = payments.next_due(at_ms)
    if due is None and payments.timers and payments.timers[0][0] <= at_ms:
        order = payments.timers[0][1]
        return ((order, (row_status(orders.get(order)), "Tick")),)
    return ((due[0], (row_status(due[1]), "Tick")),) if due is not None else ()


def _result_name(record: Record | None, outcome: ProviderOutcome) -> str:
    kind = str(outcome.WhichOneof("result"))
    attempts = 1 if record is None else max(record.hold_attempts, 1)
    return SECOND_HOLD if kind == "authorised" and outcome.attempt > attempts else _NAMES[kind]


def row_status(record: Record | None) -> str:
    """The status of an order's payment; empty if the table's rows do not hold: its call is deferred, or over."""
    status, call = status_and_call(record)
    if STATES[status].in_flight and (call is None or call.retry_at_ms):
        return ""
    # Between two polls, the table shows the call as deferred.
    polled = status in (Status.ACTION_REQUIRED, Status.SALE_ACTION_REQUIRED)
    return "" if polled and call is not None and not call.retry_at_ms else status
