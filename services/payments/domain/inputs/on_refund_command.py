"""Refund commands: full or partial, at most what was captured, each id once. Money that is only held is out of reach.

The reasons are stored in decisions: changing a text changes the log.
"""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.payments.v1.decisions_pb2 import PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import RefundCommand

from services.payments.domain.errors import Impossible
from services.payments.domain.output import events
from services.payments.domain.state.model import GroupPayments, Intent, Record

NO_PAYMENT = "the order has no payment"
RELEASED = "the order was released: its money goes back by itself"
NOT_CAPTURED = "nothing was captured"
NOTHING_LEFT = "nothing is left to give back"


def on_refund_command(payments: GroupPayments, command: RefundCommand) -> Iterator[PaymentEvent]:
    """Requests or declines a refund. Pending refunds reduce the amount that is left. Raises Impossible."""
    if not command.refund:
        raise Impossible(f"order {command.order}: a refund without an id")
    order, amount = command.order, command.amount_minor
    record = payments.orders.get(order)
    if record is not None and record.refunds is not None and command.refund in record.refunds:
        return
    reason = _decline_reason(record, amount, command.currency)
    if record is None or reason:
        yield events.refund_declined(order, command.refund, reason, max(amount, 0), command.request_sha256)
        return
    yield events.refund_requested(
        order,
        record,
        record.hold,
        amount or record.refundable(),
        record.currency,
        command.refund,
        command.request_sha256,
    )


def _decline_reason(record: Record | None, amount: int, currency: str) -> str:
    """Why the refund can't be made; empty: it can."""
    if record is None or record.intent is Intent.NONE:
        return NO_PAYMENT
    if record.intent is Intent.RELEASE:
        return RELEASED
    if currency not in ("", record.currency):
        return f"the payment is in {record.currency}, not in {currency}"
    if not record.captured:
        return NOT_CAPTURED
    left = record.refundable()
    if left <= 0:
        return NOTHING_LEFT
    return "" if 0 <= amount <= left else f"{amount} is not an amount between 1 and the {left} left"
