"""Unexpected funds: money that moved without a request, or after its request was withdrawn. It is recorded and
returned.

This works for any order in any state, also for an unknown one. Unexpected funds neither count for the order nor reach
the group. They wait in suspense before their return is requested, so that an operator can act first: a log that was
restored to an earlier time must not return the money of all orders since. Rules version 1 requests the return at once.
The reasons are stored in decisions: changing a text changes the log.
"""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain.errors import Impossible
from services.payments.domain.output import events
from services.payments.domain.state.model import GroupPayments, Intent, Payment

UNKNOWN_ORDER = "held for an order that was never asked for"
SECOND_HOLD = "held though this call was not under way"
TAKEN_UNEXPECTEDLY = "taken though no capture was under way"
TOO_MUCH = "more was taken than was asked for"
TOO_LITTLE = "less was taken than was asked for"
UNUSABLE = "a report of money that can't be booked"

#: How long unexpected funds wait in suspense. The effects processor limits the returns of an hour.
SUSPENSE_MS = 3_600_000


def return_funds(
    payments: GroupPayments,
    order: str,
    hold: str,
    amount: int,
    currency: str,
    reason: str,
    *,
    taken: bool,
    method: str = "",
    at_ms: int,
) -> Iterator[PaymentEvent]:
    """Records money of a hold, which is returned later.

    A report without a hold or an amount is an alarm: nothing is booked, and the statement shows what moved. Under rules
    version 1 it raises Impossible.
    """
    known = payments.orders.get(order)
    method = "" if known is not None and known.method else method
    if not hold or amount <= 0:
        if payments.rules_version < 2:
            raise Impossible(f"order {order}: {amount} {currency} of hold {hold!r}, {reason}")
        yield events.suspense_recorded(order, hold, 0, currency, f"{UNUSABLE}: {amount} of hold {hold!r}", method)
        return
    if payments.rules_version > 1:
        return_at_ms = at_ms + SUSPENSE_MS
        yield events.suspense_recorded(order, hold, amount, currency, reason, method, return_at_ms, taken=taken)
        return
    yield events.suspense_recorded(order, hold, amount, currency, reason, method)
    record = payments.orders[order]
    request = events.refund_requested if taken else events.void_requested
    yield request(order, record, hold, amount, currency)


def request_return(order: str, payment: Payment, hold: str, *, approved: bool = False) -> PaymentEvent:
    """Requests the return of the money of a hold that waits in suspense."""
    known = payment.holds[hold]
    request = events.refund_requested if known.suspense_taken else events.void_requested
    return request(order, payment, hold, known.suspense, known.currency, approved=approved)


def on_captured(
    payments: GroupPayments,
    order: str,
    hold: str,
    amount: int,
    reported_currency: str = "",
    method: str = "",
    *,
    at_ms: int,
) -> Iterator[PaymentEvent]:
    """Books money that was taken from a hold, requested or not. Money in another currency counts as unexpected."""
    record = payments.orders.get(order)
    if record is not None and record.has_taken(hold):
        return
    if isinstance(record, Payment):
        if _is_expected(record, hold) and reported_currency in ("", record.currency):
            yield from _book_capture(payments, order, record, amount, at_ms)
            return
        known = record.holds.get(hold)
        if known is not None and (known.held or record.pending_end(hold) is not None):
            # The held money is gone. The taken money is booked apart from it.
            yield events.hold_lapsed(order, hold, known.held, known.currency)
        elif known is not None and known.suspense and not known.suspense_taken:
            yield events.hold_lapsed(order, hold, known.suspense, known.currency)
    currency = reported_currency or (record.currency if record is not None else "")
    reason = TAKEN_UNEXPECTEDLY
    yield from return_funds(payments, order, hold, amount, currency, reason, taken=True, method=method, at_ms=at_ms)


def _is_expected(payment: Payment, hold: str) -> bool:
    known = payment.holds.get(hold) if hold == payment.hold else None
    wanted = payment.intent in (Intent.CAPTURE, Intent.RELEASE) and not payment.declined
    return known is not None and known.held > 0 and wanted


def _book_capture(
    payments: GroupPayments, order: str, payment: Payment, amount: int, at_ms: int
) -> Iterator[PaymentEvent]:
    hold, currency = payment.hold, payment.currency
    held = payment.holds[hold].held
    most = payment.to_capture if payment.intent is Intent.CAPTURE else held
    booked = min(amount, most)
    yield events.captured(order, payment, booked, held - booked)
    if amount > booked:
        yield from return_funds(payments, order, hold, amount - booked, currency, TOO_MUCH, taken=True, at_ms=at_ms)
    elif payment.intent is Intent.CAPTURE and amount < most:
        yield events.suspense_recorded(order, hold, 0, currency, TOO_LITTLE)
