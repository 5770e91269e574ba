"""What the group wants of an order's money: hold it, capture it, let it go. Repeats are no news.

The group never takes back a release, and asks for a capture only of what it was told is held. Anything else is
Impossible. Must never know a price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupDecision, ReleaseRequested, SeatReserved, SettlementRequested
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain import events, requests
from services.payments.domain.errors import Impossible
from services.payments.domain.model import GroupPayments, Payment
from services.payments.domain.model_parts import Intent
from services.payments.domain.next_steps import next_steps


def follow(purse: GroupPayments, decision: GroupDecision) -> Iterator[PaymentEvent]:
    """Follows a group decision, event by event.

    Raises the first Impossible of them, after all the others: one bad order must not cost its friends their purchase.
    """
    failed: Impossible | None = None
    for event in decision.events:
        kind = event.WhichOneof("body")
        react = _REACTIONS.get(kind) if kind is not None else None
        if react is None:
            continue
        try:
            yield from react(purse, getattr(event, str(kind)))
        except Impossible as error:
            failed = failed or error
    if failed is not None:
        raise failed


def follows(decision: GroupDecision) -> bool:
    """Whether a purse may follow any event of a decision. What this build does not know is for `decode` to raise."""
    return any(event.WhichOneof("body") in _REACTIONS_OR_UNKNOWN for event in decision.events)


def _reserve(purse: GroupPayments, seat: SeatReserved) -> Iterator[PaymentEvent]:
    record = purse.orders.get(seat.order)
    if record is not None and record.intent is not Intent.NONE:
        return
    if seat.hold_amount_minor <= 0:
        raise Impossible(f"order {seat.order}: nothing is to be held")
    yield requests.hold_requested(seat, 1 if record is None else record.asks + 1)


def _settle(purse: GroupPayments, wanted: SettlementRequested) -> Iterator[PaymentEvent]:
    order, amount = wanted.order, wanted.amount_minor
    record = purse.orders.get(order)
    if record is None or record.intent is Intent.NONE:
        raise Impossible(f"order {order} is to be charged, but the group never wanted its money held")
    if record.intent is Intent.RELEASE:
        return
    if record.intent is Intent.CAPTURE:
        if amount != record.to_capture:
            raise Impossible(f"order {order} is to be charged {amount}, after {record.to_capture}")
        return
    if not isinstance(record, Payment) or not record.hold or record.hold != wanted.hold or record.refused:
        raise Impossible(f"order {order}: {wanted.hold!r} is to be captured, {record.hold!r} is the hold")
    if wanted.currency != record.currency or not 0 < amount <= record.amount:
        held = f"{record.amount} {record.currency}"
        raise Impossible(f"order {order} is to be charged {amount} {wanted.currency}, {held} was held")
    yield from _charge(order, record, amount)


def _charge(order: str, payment: Payment, amount: int) -> Iterator[PaymentEvent]:
    hold = payment.holds[payment.hold]
    if not payment.sale:
        made = requests.capture_requested if hold.held else requests.hold_renewed
        yield made(order, payment, amount)
    elif hold.taken > amount:
        yield requests.refund_requested(order, payment, payment.hold, hold.taken - amount, payment.currency)
    else:
        yield events.captured(order, payment, amount, 0)


def _release(purse: GroupPayments, wanted: ReleaseRequested) -> Iterator[PaymentEvent]:
    order = wanted.order
    record = purse.orders.get(order)
    if record is not None and record.intent is Intent.RELEASE:
        return
    if record is None or (not isinstance(record, Payment) and not record.refundable()):
        yield events.payment_released(order)
        return
    if isinstance(record, Payment) and record.intent is Intent.HOLD and not record.refused:
        yield _undo(order, record)
    else:
        yield requests.release_noted(order, record)
    yield from next_steps(purse, order)


def _undo(order: str, payment: Payment) -> PaymentEvent:
    """The first step back from a hold. Each of these events marks the order as one to be let go."""
    hold = payment.holds.get(payment.hold)
    if hold is not None and hold.held:
        return requests.void_requested(order, payment, payment.hold, hold.held, payment.currency)
    if hold is not None and payment.sale:
        return requests.refund_requested(order, payment, payment.hold, hold.taken, payment.currency)
    if payment.action_hold:
        return requests.void_requested(order, payment, payment.action_hold, 0, payment.currency)
    return requests.release_noted(order, payment)


_REACTIONS: dict[str, Callable[[GroupPayments, Any], Iterator[PaymentEvent]]] = {
    "seat_reserved": _reserve,
    "settlement_requested": _settle,
    "release_requested": _release,
}
_REACTIONS_OR_UNKNOWN = _REACTIONS.keys() | {None}
