"""Group events about an order's money: hold it, capture it, release it. Duplicates change nothing.

A group withdraws no release, and settles only orders whose hold was reported to it. A settlement that does not fit the
hold raises an alarm, and the member counts as declined: nothing is charged, the hold is released, and the settlement of
the group ends. Under rules version 1 it is Impossible. Amounts come with the events: payments know no prices.

The reasons are stored in decisions: changing a text changes the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupDecision, ReleaseRequested, SeatReserved, SettlementRequested
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain.errors import Impossible
from services.payments.domain.next_steps import next_steps
from services.payments.domain.output import events
from services.payments.domain.state.model import SALE_PREFIX, GroupPayments, Intent, Payment, Record

MISMATCH = "the settlement does not fit the hold"

#: Groups ask for holds that last this long after their deadline.
SETTLING_MS = 86_400_000
#: Time before the deadline at which an old hold is checked.
CHECK_BEFORE_MS = 900_000


def on_group_decision(
    payments: GroupPayments, decision: GroupDecision, at_ms: int, check_holds_after_ms: int = 0
) -> Iterator[PaymentEvent]:
    """Handles the events of a group decision in order. Holds of an age are checked before their group closes; 0: none.

    Raises the first Impossible after all events: an error in one order does not stop the purchase of the others.
    """
    failed: Impossible | None = None
    for event in decision.events:
        kind = event.WhichOneof("body")
        react = _REACTIONS.get(kind) if kind is not None else None
        if react is None:
            continue
        try:
            if kind == "seat_reserved" and check_holds_after_ms and payments.rules_version > 1:
                seat = event.seat_reserved
                yield from _seat_reserved(payments, seat, _check_at_ms(seat, at_ms, check_holds_after_ms))
            else:
                yield from react(payments, getattr(event, str(kind)))
        except Impossible as error:
            failed = failed or error
    if failed is not None:
        raise failed


def concerns_payments(decision: GroupDecision) -> bool:
    """Whether a decision has an event about money, or one that this build does not know, which `decode` refuses."""
    return any(event.WhichOneof("body") in _REACTIONS_OR_UNKNOWN for event in decision.events)


def _check_at_ms(seat: SeatReserved, at_ms: int, after_ms: int) -> int:
    """When the hold of a seat is checked; 0: it is younger at that time, or there is no hold."""
    check_at_ms = seat.hold_until_ms - SETTLING_MS - CHECK_BEFORE_MS
    held = not seat.payment_method.startswith(SALE_PREFIX)
    return check_at_ms if held and check_at_ms - at_ms >= after_ms else 0


def _seat_reserved(payments: GroupPayments, seat: SeatReserved, check_at_ms: int = 0) -> Iterator[PaymentEvent]:
    record = payments.orders.get(seat.order)
    if record is not None and record.intent is not Intent.NONE:
        return
    if seat.hold_amount_minor <= 0:
        raise Impossible(f"order {seat.order}: the amount to hold is {seat.hold_amount_minor}")
    yield events.hold_requested(seat, 1 if record is None else record.hold_attempts + 1, check_at_ms)


def _settlement_requested(payments: GroupPayments, wanted: SettlementRequested) -> Iterator[PaymentEvent]:
    order = wanted.order
    record = payments.orders.get(order)
    if record is not None and (record.intent is Intent.RELEASE or record.reason == MISMATCH):
        return
    mismatch = _mismatch(record, wanted)
    if not mismatch:
        if isinstance(record, Payment) and record.intent is Intent.HOLD:
            yield from _charge(order, record, wanted.amount_minor)
    elif payments.rules_version < 2:
        raise Impossible(f"order {order}: {mismatch}")
    else:
        hold, currency = (wanted.hold, wanted.currency) if record is None else (record.hold, record.currency)
        yield events.suspense_recorded(order, hold, 0, currency, f"{MISMATCH}: {mismatch}")
        if isinstance(record, Payment) and record.intent is Intent.HOLD and record.pending_authorisation() is not None:
            # The provider may hold money already: the result of the call decides what to release.
            yield events.release_noted(order, record)
            yield from next_steps(payments, order)
        elif record is None or record.intent is not Intent.CAPTURE:
            yield events.capture_declined(order, hold, MISMATCH)
            yield from next_steps(payments, order)


def _mismatch(record: Record | None, wanted: SettlementRequested) -> str:
    """Why a settlement does not fit the order's hold; empty if it does."""
    amount = wanted.amount_minor
    if record is None or record.intent is Intent.NONE:
        return "settlement requested, but no hold ever was"
    if record.intent is Intent.CAPTURE:
        if amount != record.to_capture:
            return f"settlement of {amount} requested after one of {record.to_capture}"
        return ""
    if not isinstance(record, Payment) or not record.hold or record.hold != wanted.hold or record.declined:
        return f"settlement of hold {wanted.hold!r} requested, the hold is {record.hold!r}"
    if wanted.currency != record.currency or not 0 < amount <= record.amount:
        return f"settlement of {amount} {wanted.currency} requested, {record.amount} {record.currency} was held"
    return ""


def _charge(order: str, payment: Payment, amount: int) -> Iterator[PaymentEvent]:
    hold = payment.holds[payment.hold]
    if not payment.sale:
        request = events.capture_requested if hold.held else events.hold_renewed
        yield request(order, payment, amount)
    elif (excess := hold.taken - hold.returned - payment.disputed(payment.hold) - amount) > 0:
        yield events.refund_requested(order, payment, payment.hold, excess, payment.currency)
    else:
        yield events.captured(order, payment, amount, 0)


def _release_requested(payments: GroupPayments, wanted: ReleaseRequested) -> Iterator[PaymentEvent]:
    order = wanted.order
    record = payments.orders.get(order)
    if record is not None and record.intent is Intent.RELEASE:
        return
    if record is None or (not isinstance(record, Payment) and not record.refundable()):
        yield events.payment_released(order)
        return
    if isinstance(record, Payment) and record.intent is Intent.HOLD and not record.declined:
        yield _begin_release(order, record)
    else:
        yield events.release_noted(order, record)
    yield from next_steps(payments, order)


def _begin_release(order: str, payment: Payment) -> PaymentEvent:
    """The first step of releasing a hold. Each of these events also sets the intent to RELEASE."""
    hold = payment.holds.get(payment.hold)
    if hold is not None and hold.held:
        return events.void_requested(order, payment, payment.hold, hold.held, payment.currency)
    if hold is not None and payment.sale and not hold.returned and not payment.disputes:
        return events.refund_requested(order, payment, payment.hold, hold.taken, payment.currency)
    if payment.action_hold:
        return events.void_requested(order, payment, payment.action_hold, 0, payment.currency)
    return events.release_noted(order, payment)


_REACTIONS: dict[str, Callable[[GroupPayments, Any], Iterator[PaymentEvent]]] = {
    "seat_reserved": _seat_reserved,
    "settlement_requested": _settlement_requested,
    "release_requested": _release_requested,
}
_REACTIONS_OR_UNKNOWN = _REACTIONS.keys() | {None}
