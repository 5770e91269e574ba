"""Facts and decisions as one line of text each, for people.

Every event of the contract has a text here. An unknown event is shown as its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.text_format import MessageToString
from groupbuy.groups.v1.decisions_pb2 import GroupEvent, RefusalReason, ReleaseReason, Terms
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentEvent, ProviderCall

from chassis.telemetry.printable import printable
from ops.log.rendering.tokens import shown_link, shown_method, without_tokens
from ops.terminal.amounts import amount


def clock(time_ms: int) -> str:
    """The time of day in UTC, to the millisecond."""
    return _time(time_ms, "%H:%M:%S.%f")


def day_and_clock(time_ms: int) -> str:
    """The date and time in UTC, to the millisecond."""
    return _time(time_ms, "%Y-%m-%d %H:%M:%S.%f") + "Z"


def _time(time_ms: int, form: str) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime(form)[:-3]
    except (OverflowError, OSError, ValueError):
        # A foreign record may have any number.
        return f"{time_ms} ms"


def short(name: str) -> str:
    """The first eight characters of an id."""
    return name[:8]


def counted(number: int, noun: str) -> str:
    """`1 piece`, `2 pieces`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def ladder(terms: Terms) -> str:
    """`2 → ¥89.00, 5 → ¥79.00`, or the solo price."""
    if terms.solo:
        return f"solo {amount(terms.solo_price_minor, terms.currency)}"
    return ", ".join(f"{tier.members} → {amount(tier.unit_price_minor, terms.currency)}" for tier in terms.tiers)


def _refusal(reason: RefusalReason.ValueType) -> str:
    return _words(RefusalReason.Name(reason), "REFUSAL_REASON_")


def _release(reason: ReleaseReason.ValueType) -> str:
    return _words(ReleaseReason.Name(reason), "RELEASE_REASON_")


def _operation(operation: Operation.ValueType) -> str:
    return _words(Operation.Name(operation), "OPERATION_")


def _words(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", " ")


def _opened(event: Any) -> str:
    terms = event.terms
    return (
        f"opened by {event.leader_customer} on campaign {terms.campaign} ({ladder(terms)}), "
        f"{terms.capacity} seats, until {clock(event.deadline_ms)}"
    )


def _reserved(event: Any) -> str:
    invited = f", invited by {event.invitation.inviter}" if event.HasField("invitation") else ""
    return (
        f"seat reserved for {short(event.order)} of {event.customer}{invited}, {counted(event.quantity, 'piece')}, "
        f"hold of {amount(event.hold_amount_minor, event.currency)} until {clock(event.reserved_until_ms)}"
    )


def _completed(event: Any) -> str:
    filled = ", virtual completion" if event.house_filled else ""
    return f"COMPLETED with {counted(len(event.orders), 'member')}, tier of {event.tier_members}{filled}"


def _declined(event: Any) -> str:
    return f"{short(event.order)} declined: {event.reason}"


def _money(text: str) -> Callable[[Any], str]:
    """Describes events of an order about an amount, which takes the place of {} in the text."""
    return lambda e: f"{short(e.order)}: {text.format(amount(e.amount_minor, e.currency))}"


def _faulted(event: Any) -> str:
    return f"THE RULES FAILED: {event.error}"


GROUP: Mapping[str, Callable[[Any], str]] = {
    "opened": _opened,
    "seat_reserved": _reserved,
    "seat_refused": lambda e: f"{short(e.order)} refused: {_refusal(e.reason)}",
    "seat_waitlisted": lambda e: f"{short(e.order)} of {e.customer} is waitlisted",
    "member_confirmed": lambda e: f"{short(e.order)} confirmed, {counted(e.members, 'member')}",
    "seat_released": lambda e: f"{short(e.order)}: seat released, {_release(e.reason)}",
    "leader_changed": lambda e: f"{short(e.order) or 'nobody'} is the leader",
    "tier_reached": lambda e: f"tier of {e.members} reached",
    "completed": _completed,
    "expired": lambda e: f"EXPIRED with {counted(e.members, 'member')}",
    "cancelled": lambda e: f"CANCELLED: {e.reason}",
    "settlement_requested": _money("settlement of {} requested"),
    "release_requested": lambda e: f"{short(e.order)}: release requested, {_release(e.reason)}",
    "member_settled": lambda e: f"{short(e.order)} charged",
    "member_released": lambda e: f"{short(e.order)} released",
    "member_declined": _declined,
    "member_owed": lambda e: f"{short(e.order)}: money is {'OWED' if e.amount_minor else 'not owed any more'}",
    "settled": lambda e: f"SETTLED: {e.settled} charged, {e.declined} declined",
    "cancel_refused": lambda e: f"{short(e.order)}: cancellation refused, {e.reason}",
    "units_requested": lambda e: f"asks {e.stock} for {e.at_least} to {counted(e.at_most, 'piece')}",
    "units_granted": lambda e: f"{counted(e.units, 'piece')} granted",
    "units_denied": lambda e: f"too few pieces, {'waits in line' if e.queued else f'{e.free} are free'}",
    "units_returned": lambda e: f"{counted(e.units, 'piece')} returned to {e.stock}",
    "units_sold": lambda e: f"{counted(e.units, 'piece')} of {e.stock} sold",
    "admission_requested": lambda e: f"{short(e.order)} waits for the limit of its customer",
    "allowance_returned": lambda e: f"{short(e.order)} no longer counts in the limit of its customer",
    "faulted": _faulted,
}


def _call(call: ProviderCall) -> str:
    again = f", attempt {call.attempt}" if call.attempt > 1 else ""
    return f"{_operation(call.operation)} {amount(call.amount_minor, call.currency)} of {short(call.order)}{again}"


def _requested(event: Any) -> str:
    return f"asks the provider: {_call(event.call)}"


def _authorised(event: Any) -> str:
    verb = "taken" if _operation(event.operation) == "sale" else "held"
    return f"{short(event.order)}: {amount(event.amount_minor, event.currency)} {verb} ({event.hold})"


def _captured(event: Any) -> str:
    rest = f", {amount(event.released_minor, event.currency)} released" if event.released_minor else ""
    return f"{short(event.order)}: {amount(event.amount_minor, event.currency)} captured{rest}"


def _owed(event: Any) -> str:
    if not event.amount_minor:
        return f"{short(event.order)}: nothing is owed any more"
    after = f"next attempt at {clock(event.next_attempt_ms)}" if event.next_attempt_ms else "NO FURTHER ATTEMPT"
    return f"{short(event.order)}: {amount(event.amount_minor, event.currency)} OWED, {after} ({event.reason})"


def _operator_acted(event: Any) -> str:
    action = event.action.WhichOneof("action") or "no action"
    how = f"refused: {event.refusal}" if event.refusal else "done"
    return f"{short(event.order)}: {event.operator}: {action.replace('_', ' ')} {how} ({event.reason})"


PAYMENT: Mapping[str, Callable[[Any], str]] = {
    "hold_requested": _requested,
    "action_required": lambda e: f"{short(e.order)}: the shopper must confirm at {shown_link(e.action_url)}",
    "hold_authorised": _authorised,
    "hold_declined": _declined,
    "capture_requested": _requested,
    "captured": _captured,
    "capture_declined": lambda e: f"{short(e.order)}: capture declined: {e.reason}",
    "void_requested": _requested,
    "voided": _money("{} released"),
    "hold_lapsed": _money("the hold of {} lapsed"),
    "refund_requested": _requested,
    "refunded": _money("{} refunded"),
    "refund_declined": lambda e: f"{short(e.order)}: refund refused: {e.reason}",
    "payment_released": lambda e: f"{short(e.order)}: payment released",
    "call_deferred": lambda e: (
        f"{short(e.order)}: {_operation(e.operation)} is retried at {clock(e.retry_at_ms)} ({e.error})"
    ),
    "call_retried": lambda e: f"retry: {_call(e.call)}",
    "suspense_recorded": lambda e: (
        f"UNEXPECTED FUNDS: {amount(e.amount_minor, e.currency)} of {short(e.order)}: {e.reason}"
    ),
    "faulted": _faulted,
    "rules_selected": lambda e: f"rules version {e.rules_version}",
    "money_owed": _owed,
    "refund_reversed": _money("REVERSED: a refund of {} came back"),
    "dispute_opened": _money("DISPUTE of {} opened"),
    "dispute_evidence_due": lambda e: f"{short(e.order)}: evidence of dispute {e.dispute} is due",
    "dispute_won": _money("dispute of {} won"),
    "dispute_lost": _money("DISPUTE of {} lost"),
    "fraud_warning_received": lambda e: f"{short(e.order)}: FRAUD WARNING: {e.reason}",
    "external_operation_recorded": lambda e: (
        f"{short(e.order)}: a person made a {_operation(e.operation)} of {amount(e.amount_minor, e.currency)}"
    ),
    "suspense_approved": lambda e: f"{short(e.order)}: return of unexpected funds of {e.hold} approved",
    "suspense_kept": _money("unexpected funds of {} kept"),
    "fee_charged": _money("fee of {}"),
    "paid_out": _money("{} paid out"),
    "ledger_adjusted": _money("LEDGER ADJUSTED by {}"),
    "operator_acted": _operator_acted,
    "hold_lost": lambda e: f"{short(e.order)}: the hold was lost while the group formed: {e.reason}",
    "hold_check_requested": _requested,
    "hold_checked": lambda e: f"{short(e.order)}: the hold was checked",
    "capture_at_risk": lambda e: f"{short(e.order)}: NOT CAPTURED, the hold ends at {clock(e.capture_before_ms)}",
    "call_given_up": lambda e: f"{short(e.order)}: {_operation(e.operation)} GIVEN UP ({e.error})",
    "returned_outside": _money("{} returned by other means"),
}


def event_line(event: GroupEvent | PaymentEvent) -> str:
    """One event of a decision as text."""
    body = event.WhichOneof("body")
    if body is None:
        return "an event of unknown type"
    describe = (GROUP if isinstance(event, GroupEvent) else PAYMENT).get(body)
    inner = getattr(event, body)
    try:
        return printable(describe(inner)) if describe else f"{body} {one_line(inner)}"
    except ValueError:
        # An unknown enum value.
        return f"{body} {one_line(inner)}"


def fact_line(fact: OrderFact) -> str:
    """One order fact as text."""
    who = f"{fact.customer}: {short(fact.order)}"
    if fact.WhichOneof("body") == "cancel_requested":
        return printable(f"{who} requests cancellation")
    placed = fact.placed
    how = "bought alone" if placed.solo else "opens the group" if placed.opens_group else "joins"
    price = amount(placed.max_unit_price_minor, placed.currency)
    method = shown_method(placed.payment_method)
    return printable(f"{who} {how}, {counted(placed.quantity, 'piece')} at {price} at most, pays with {method}")


def orders_of(event: GroupEvent | PaymentEvent) -> tuple[str, ...]:
    """The orders of an event."""
    body = event.WhichOneof("body")
    inner = getattr(event, body) if body else None
    if inner is None:
        return ()
    if body == "completed":
        return tuple(inner.orders)
    if body == "opened":
        return (inner.leader_order,)
    if "call" in inner.DESCRIPTOR.fields_by_name:
        return (inner.call.order,)
    return (inner.order,) if "order" in inner.DESCRIPTOR.fields_by_name else ()


def one_line(message: Message) -> str:
    """A message's fields on one line, without tokens."""
    return printable(MessageToString(without_tokens(message), as_one_line=True))
