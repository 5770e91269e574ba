"""A payment and its refunds as the API shows them. Read only; must never be what a decision is based on."""

from __future__ import annotations

from dataclasses import dataclass

from services.payments.domain.model import GroupPayments, Payment, Record
from services.payments.domain.model_parts import Intent, RefundStatus


@dataclass(frozen=True, slots=True)
class PaymentView:
    """Where the payment of one order stands. Amounts in minor units."""

    #: Name of a PaymentState, without its prefix.
    state: str
    currency: str
    #: Asked to be held at first.
    amount: int
    #: Held now; taken, if by a sale that is not settled yet.
    held: int
    captured: int
    #: Given back after capture.
    refunded: int
    hold: str
    #: Where the shopper confirms; empty: nothing to confirm.
    action_url: str
    #: Why it was declined; empty: it was not.
    reason: str
    #: Not to be kept, but the provider refused to give it back.
    owed: int


@dataclass(frozen=True, slots=True)
class RefundView:
    """Where a commanded refund stands."""

    status: RefundStatus
    #: In minor units.
    amount: int
    #: Why it was declined; empty: it was not.
    reason: str
    #: SHA-256 of the command, so that the same id with another payload is found out.
    request_sha256: bytes
    #: The provider was asked; else our own rules declined it.
    asked: bool


def payment_of(purse: GroupPayments, order: str) -> PaymentView | None:
    """The payment of an order; None: the group has never spoken of it."""
    record = purse.orders.get(order)
    if record is None or record.intent is Intent.NONE:
        return None
    payment = record if isinstance(record, Payment) else None
    refunded = _refunded(record, payment)
    return PaymentView(
        state=_state(record, payment, refunded),
        currency=record.currency,
        amount=record.amount,
        held=_held(payment),
        captured=record.captured,
        refunded=refunded,
        hold=record.hold,
        action_url=payment.action_url if payment is not None else "",
        reason=record.reason,
        owed=record.owed,
    )


def refund_of(purse: GroupPayments, order: str, refund: str) -> RefundView | None:
    """A refund by its id; None: it was never decided."""
    record = purse.orders.get(order)
    known = (record.refunds or {}).get(refund) if record is not None else None
    if known is None:
        return None
    return RefundView(known.status, known.amount, known.reason, known.request_sha256, known.asked)


def _held(payment: Payment | None) -> int:
    if payment is None:
        return 0
    hold = payment.holds.get(payment.hold)
    if hold is None:
        return 0
    return hold.taken - hold.returned if payment.sale and not payment.captured else hold.held


def _refunded(record: Record, payment: Payment | None) -> int:
    if record.intent is not Intent.RELEASE or not record.captured:
        return record.refunded
    hold = payment.holds.get(record.hold) if payment is not None else None
    if hold is None or not hold.taken:
        # A release that is done has given everything back that it could.
        return max(record.captured - record.owed, 0)
    return record.refunded + max(hold.returned - max(hold.taken - record.captured, 0), 0)


def _state(record: Record, payment: Payment | None, refunded: int) -> str:
    if record.captured:
        return _captured(record, refunded)
    if record.refused:
        return "DECLINED"
    if payment is not None and payment.asking() is not None:
        return "ACTION_REQUIRED" if payment.action_url else "REQUESTED"
    if _held(payment):
        return "AUTHORISED"
    return "LAPSED" if record.lapsed else "VOIDED"


def _captured(record: Record, refunded: int) -> str:
    if not refunded:
        return "CAPTURED"
    return "REFUNDED" if refunded >= record.captured else "PARTLY_REFUNDED"
