"""Money owed: sums that are due to the customer and that the provider refused to return, or took back.

A refund without a command that is refused is owed, and so is a commanded refund that had succeeded and came back. The
refund is requested again on a schedule with an end; then an operator has to act. A commanded refund that is refused at
once is declined: the shop decides. This is rules version 2; version 1 makes no further attempt at a refused amount.

The reasons are stored in decisions: changing a text changes the log.
"""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain.output import events, provider_events
from services.payments.domain.state.model import Call, Payment
from services.payments.domain.state.provider_life import Owed

HOUR_MS = 3_600_000
#: Pauses before the attempts that follow a refusal. After the last one, an operator has to act.
PAUSES_MS = (300_000, HOUR_MS, 6 * HOUR_MS, 24 * HOUR_MS, 72 * HOUR_MS)
NO_LONGER_DUE = "nothing is due any more"


def refund_refused(order: str, payment: Payment, call: Call, reason: str, at_ms: int) -> Iterator[PaymentEvent]:
    """The provider refused a refund: what is still due of it is owed."""
    known = (payment.refunds or {}).get(call.refund)
    digest = known.request_sha256 if known is not None else b""
    yield events.refund_declined(order, call.refund, reason, call.amount, digest, call.attempt)
    debt = payment.debt(call.hold, call.refund)
    owed_before = 0 if debt is None else debt.amount
    amount = owed_before if call.refund else max(payment.due(call.hold), 0)
    if amount:
        failures = 1 if debt is None else debt.failures + 1
        yield owe(order, payment, call.hold, call.refund, amount, reason, failures, at_ms)


def owe(
    order: str, payment: Payment, hold: str, refund: str, amount: int, reason: str, failures: int, at_ms: int
) -> PaymentEvent:
    """An amount is owed, with the time of the next attempt; after the last one an operator has to act."""
    pause_ms = PAUSES_MS[failures - 1] if failures <= len(PAUSES_MS) else 0
    known = payment.holds.get(hold)
    currency = payment.currency if known is None else known.currency
    next_ms = at_ms + pause_ms if pause_ms else 0
    return provider_events.money_owed(
        order, Owed(hold, refund, amount, currency, reason, failures, next_ms, alarm=not pause_ms)
    )


def adjust_debts(order: str, payment: Payment) -> Iterator[PaymentEvent]:
    """Sets what is owed to what is still due, and requests its refund unless one is pending or has a time.

    More is due than is owed if the order is released or fails meanwhile: all of it is requested at once.
    """
    for debt in tuple(payment.debts.values()):
        due = max(_still_due(payment, debt), 0)
        due = min(debt.amount, due) if debt.refund else due
        if due != debt.amount:
            yield provider_events.money_owed(order, _changed(debt, due))
        left = payment.debt(debt.hold, debt.refund)
        if left is not None and (due > debt.amount or not (left.next_ms or left.alarm)):
            yield from request(order, payment, left)


def _still_due(payment: Payment, debt: Owed) -> int:
    if not debt.refund:
        return payment.due(debt.hold)
    # The shop decided on this refund: it is limited by what is left of the charge.
    return payment.charge_left()


def _changed(debt: Owed, amount: int) -> Owed:
    if amount:
        return Owed(
            debt.hold,
            debt.refund,
            amount,
            debt.currency,
            debt.reason,
            debt.failures,
            debt.next_ms,
            debt.alarm,
        )
    return Owed(debt.hold, debt.refund, 0, debt.currency, NO_LONGER_DUE, debt.failures, 0, alarm=False)


def lower(order: str, debt: Owed, by: int) -> PaymentEvent:
    """A part of a sum was returned."""
    return provider_events.money_owed(order, _changed(debt, max(debt.amount - by, 0)))


def request(order: str, payment: Payment, debt: Owed) -> Iterator[PaymentEvent]:
    """Requests the refund of an owed sum, unless one is pending."""
    if payment.pending_refund(debt.hold, debt.refund) is None:
        known = (payment.refunds or {}).get(debt.refund)
        digest = known.request_sha256 if known is not None else b""
        yield events.refund_requested(order, payment, debt.hold, debt.amount, debt.currency, debt.refund, digest)
