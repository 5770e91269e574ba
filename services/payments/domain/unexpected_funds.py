"""Money that moved though nobody had asked for it, or no longer: it is recorded in the open and sent back.

Money outranks every other state, so this works for any order, also one that nobody knows. Must never let such money
count for the order, nor be told to the group.
"""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain import events, requests
from services.payments.domain.errors import Impossible
from services.payments.domain.model import GroupPayments, Payment
from services.payments.domain.model_parts import Intent

UNKNOWN_ORDER = "held for an order that was never asked for"
SECOND_HOLD = "held though this call was not under way"
TAKEN_UNASKED = "taken though no capture was under way"
TOO_MUCH = "more was taken than was asked for"
TOO_LITTLE = "less was taken than was asked for"


def return_funds(
    purse: GroupPayments,
    order: str,
    hold: str,
    amount: int,
    currency: str,
    reason: str,
    *,
    taken: bool,
    method: str = "",
) -> Iterator[PaymentEvent]:
    """Records money of a hold and asks for its return. Raises Impossible where there is nothing to ask it for by."""
    if not hold or amount <= 0:
        raise Impossible(f"order {order}: {amount} {currency} of hold {hold!r}, {reason}")
    known = purse.orders.get(order)
    method = "" if known is not None and known.method else method
    yield events.suspense_recorded(order, hold, amount, currency, reason, method)
    record = purse.orders[order]
    made = requests.refund_requested if taken else requests.void_requested
    yield made(order, record, hold, amount, currency)


def captured(
    purse: GroupPayments, order: str, hold: str, amount: int, said_currency: str = "", method: str = ""
) -> Iterator[PaymentEvent]:
    """Money was taken from a hold, asked for or not. Another currency than was asked for counts as unasked."""
    record = purse.orders.get(order)
    if record is not None and record.took(hold):
        return
    if isinstance(record, Payment):
        if _is_wanted(record, hold) and said_currency in ("", record.currency):
            yield from _take(purse, order, record, amount)
            return
        known = record.holds.get(hold)
        if known is not None and (known.held or record.ending(hold) is not None):
            # What was held there is not held any more; what was taken instead is money on its own account.
            yield events.hold_lapsed(order, hold, known.held, known.currency)
    currency = said_currency or (record.currency if record is not None else "")
    yield from return_funds(purse, order, hold, amount, currency, TAKEN_UNASKED, taken=True, method=method)


def _is_wanted(payment: Payment, hold: str) -> bool:
    known = payment.holds.get(hold) if hold == payment.hold else None
    asked = payment.intent in (Intent.CAPTURE, Intent.RELEASE) and not payment.refused
    return known is not None and known.held > 0 and asked


def _take(purse: GroupPayments, order: str, payment: Payment, amount: int) -> Iterator[PaymentEvent]:
    hold, currency = payment.hold, payment.currency
    held = payment.holds[hold].held
    most = payment.to_capture if payment.intent is Intent.CAPTURE else held
    counts = min(amount, most)
    yield events.captured(order, payment, counts, held - counts)
    if amount > counts:
        yield from return_funds(purse, order, hold, amount - counts, currency, TOO_MUCH, taken=True)
    elif payment.intent is Intent.CAPTURE and amount < most:
        yield events.suspense_recorded(order, hold, 0, currency, TOO_LITTLE)
