"""The lines of a story: those of `groupbuy-ops show --anonymous`, with what moved and where each record is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from groupbuy.payments.v1.decisions_pb2 import Operation

from ops.log.history import Line
from ops.log.rendering.describe import clock, orders_of
from ops.terminal.amounts import amount

#: Events after which somebody may have to act.
_FAILURES = frozenset(
    {
        "seat_refused", "expired", "cancelled", "member_declined", "cancel_refused", "faulted", "hold_declined",
        "capture_declined", "refund_declined", "hold_lapsed", "call_deferred", "suspense_recorded", "money_owed",
        "refund_reversed", "dispute_opened", "dispute_lost",
    }
)  # fmt: skip
_SUCCESSES = frozenset({"tier_reached", "completed", "settled", "captured", "member_settled", "dispute_won"})
#: The column of the money that an event moves, by the event's field.
_MOVES: dict[str, tuple[tuple[str, str], ...]] = {
    "hold_authorised": (("held", "amount_minor"),),
    "captured": (("captured", "amount_minor"), ("released", "released_minor")),
    "voided": (("released", "amount_minor"),),
    "hold_lapsed": (("released", "amount_minor"),),
    "refunded": (("refunded", "amount_minor"),),
    "suspense_recorded": (("suspense", "amount_minor"),),
}
#: Result of a provider's call, and its operation; an empty operation is a field of the event.
_RESULTS: dict[str, tuple[str, str]] = {
    "hold_authorised": ("", "done"),
    "action_required": ("authorise", "the shopper has to confirm"),
    "hold_declined": ("authorise", "declined"),
    "captured": ("capture", "done"),
    "capture_declined": ("capture", "declined"),
    "voided": ("void", "done"),
    "hold_lapsed": ("void", "the hold had lapsed"),
    "refunded": ("refund", "done"),
    "refund_declined": ("refund", "declined"),
    "call_deferred": ("", "deferred"),
}


class StoryLine(NamedTuple):
    """One line of the page."""

    #: Unique and the same after a restart.
    key: str
    time: str
    head: str
    text: str
    #: order, group or payments.
    who: str
    #: good, bad or empty.
    tone: str
    #: Column and amount of the money that moved.
    money: list[tuple[str, str]]
    #: Time since the line before, in words; empty: none worth naming.
    pause: str
    place: str
    version: int
    digest: str
    #: The first order of the event; empty if it concerns none or all.
    order: str


class ProviderCall(NamedTuple):
    """A call of the provider, as the log shows it."""

    operation: str
    attempt: int
    amount: str
    asked: str
    result: str
    ended: str


def story_lines(lines: Iterable[Line]) -> Iterator[StoryLine]:
    """The lines of the page, in the order of the log."""
    before_ms = 0
    digests: dict[tuple[str, int, int], str] = {}
    numbers: dict[tuple[str, int, int], int] = {}
    for line in lines:
        record, event = line.entry.record, line.event
        place = record.topic, record.partition, record.offset
        number = numbers[place] = numbers.get(place, -1) + 1
        if place not in digests:
            digests[place] = sha256(record.value or b"").hexdigest()
        body = _body(event)
        orders = orders_of(event) if body else ()
        gap_ms = record.timestamp - before_ms if before_ms else 0
        before_ms = record.timestamp
        yield StoryLine(
            f"{record.topic}-{record.partition}-{record.offset}-{number}",
            line.time,
            line.head,
            line.text,
            line.entry.spec.name.partition(".")[0],
            "bad" if body in _FAILURES else "good" if body in _SUCCESSES else "",
            list(_moved(event, body)),
            _pause(gap_ms),
            f"{record.topic} {record.partition}:{record.offset}",
            int(getattr(line.entry.message, "version", 0)),
            digests[place],
            orders[0] if len(orders) == 1 else "",
        )


def provider_calls(lines: Iterable[Line]) -> list[ProviderCall]:
    """The calls of the provider in some lines, with the result of each."""
    calls: list[ProviderCall] = []
    for line in lines:
        body = _body(line.event)
        inner = getattr(line.event, body) if body else None
        at = clock(line.entry.record.timestamp)
        if inner is not None and "call" in inner.DESCRIPTOR.fields_by_name:
            call = inner.call
            price = amount(call.amount_minor, call.currency)
            calls.append(ProviderCall(operation_name(call.operation), call.attempt, price, at, "", ""))
        elif body in _RESULTS:
            operation, result = _RESULTS[body]
            wanted = operation or operation_name(getattr(inner, "operation", 0))
            reason = getattr(inner, "reason", "") or getattr(inner, "error", "")
            told = f"{result}: {reason}" if reason else result
            for index in range(len(calls) - 1, -1, -1):
                known = calls[index]
                if not known.ended and (
                    known.operation == wanted or {known.operation, wanted} == {"authorise", "sale"}
                ):
                    calls[index] = known._replace(result=told, ended=at)
                    break
    return calls


def operation_name(operation: int) -> str:
    """The name of a provider's operation, in lower case."""
    try:
        return Operation.Name(operation).removeprefix("OPERATION_").lower()  # type: ignore[arg-type]
    except ValueError:
        return f"operation {operation}"


def _body(event: Any) -> str:
    oneof = getattr(event, "WhichOneof", None)
    if oneof is None or "body" not in event.DESCRIPTOR.oneofs_by_name or hasattr(event, "placed"):
        return ""
    return oneof("body") or ""


def _moved(event: Any, body: str) -> Iterator[tuple[str, str]]:
    for column, field in _MOVES.get(body, ()):
        inner = getattr(event, body)
        minor = getattr(inner, field)
        if minor:
            yield column, amount(minor, inner.currency)


def _pause(gap_ms: int) -> str:
    if gap_ms < 1_000:
        return ""
    seconds = gap_ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s later"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min later" if hours else f"{minutes} min {rest} s later"
