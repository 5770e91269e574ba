"""Maps the state of payments to the messages of the API. No message holds a payment method.

The API shows fewer states than `Status` has: `_STATES` maps each, and `_state` refines it by the money that moved.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.payments.v1 import payments_pb2 as pb
from groupbuy.payments.v1.payments_pb2 import PaymentState

from services.payments.domain.state.model import GroupPayments, Intent, Payment, Record, RefundStatus
from services.payments.domain.state.provider_life import DisputeStatus
from services.payments.domain.state.status import Status, status
from shared_kernel.consistency_tokens import of_payments

_STATES: dict[Status, PaymentState.ValueType] = {
    Status.UNKNOWN: pb.PAYMENT_STATE_UNSPECIFIED,
    Status.REQUESTED: pb.PAYMENT_STATE_REQUESTED,
    Status.DEFERRED: pb.PAYMENT_STATE_REQUESTED,
    Status.ACTION_REQUIRED: pb.PAYMENT_STATE_ACTION_REQUIRED,
    Status.AUTHORISED: pb.PAYMENT_STATE_AUTHORISED,
    Status.LAPSED: pb.PAYMENT_STATE_LAPSED,
    Status.HOLD_DECLINED: pb.PAYMENT_STATE_DECLINED,
    Status.CAPTURING: pb.PAYMENT_STATE_AUTHORISED,
    Status.RENEWING: pb.PAYMENT_STATE_REQUESTED,
    Status.CAPTURED: pb.PAYMENT_STATE_CAPTURED,
    Status.CAPTURE_DECLINED: pb.PAYMENT_STATE_DECLINED,
    Status.REFUNDING: pb.PAYMENT_STATE_CAPTURED,
    Status.RELEASING: pb.PAYMENT_STATE_REQUESTED,
    Status.VOIDING: pb.PAYMENT_STATE_AUTHORISED,
    Status.RETURNING: pb.PAYMENT_STATE_CAPTURED,
    Status.RELEASED: pb.PAYMENT_STATE_VOIDED,
    Status.SALE_REQUESTED: pb.PAYMENT_STATE_REQUESTED,
    Status.SALE_ACTION_REQUIRED: pb.PAYMENT_STATE_ACTION_REQUIRED,
    Status.SALE_TAKEN: pb.PAYMENT_STATE_AUTHORISED,
    Status.SALE_SETTLING: pb.PAYMENT_STATE_AUTHORISED,
    Status.SALE_RETURNING: pb.PAYMENT_STATE_AUTHORISED,
    Status.OWED: pb.PAYMENT_STATE_AUTHORISED,
}

#: The last second that a Timestamp can hold.
_LATEST_MS = 253_402_300_799_000
_DISPUTE_STATES = {
    DisputeStatus.OPEN: pb.PAYMENT_DISPUTE_STATE_OPEN,
    DisputeStatus.WON: pb.PAYMENT_DISPUTE_STATE_WON,
    DisputeStatus.LOST: pb.PAYMENT_DISPUTE_STATE_LOST,
}

REFUND_STATES = {
    RefundStatus.PENDING: pb.REFUND_STATE_PENDING,
    RefundStatus.SUCCEEDED: pb.REFUND_STATE_SUCCEEDED,
    RefundStatus.DECLINED: pb.REFUND_STATE_DECLINED,
    RefundStatus.REVERSED: pb.REFUND_STATE_REVERSED,
}


@dataclass(frozen=True, slots=True)
class PaymentView:
    """The payment of one order, as the API shows it. Amounts in minor units."""

    state: PaymentState.ValueType
    currency: str
    #: Amount of the first hold request.
    amount: int
    #: Held now; taken, if by a sale that is not settled yet.
    held: int
    captured: int
    #: Refunded after capture.
    refunded: int
    hold: str
    #: Where the shopper confirms; empty: no confirmation is needed.
    action_url: str
    #: Why it was declined; empty: it was not.
    reason: str
    #: Due to the customer, but the provider declined its refund.
    owed: int
    #: Actions of the provider, its users and operators: see `_provider_life`.
    life: pb.Payment


@dataclass(frozen=True, slots=True)
class RefundView:
    """A commanded refund, as the API shows it."""

    status: RefundStatus
    #: In minor units.
    amount: int
    #: Why it was declined; empty: it was not.
    reason: str
    #: SHA-256 of the command: detects another request under the same id.
    request_sha256: bytes
    #: Whether the provider was called; otherwise our own rules declined the refund.
    sent: bool


def payment_of(payments: GroupPayments, order: str) -> PaymentView | None:
    """The payment of an order; None: the group never named the order."""
    record = payments.orders.get(order)
    if record is None or record.intent is Intent.NONE:
        return None
    payment = record if isinstance(record, Payment) else None
    held, refunded = _held(payment), _refunded(record, payment)
    return PaymentView(
        state=_state(record, payment, held, refunded),
        currency=record.currency,
        amount=record.amount,
        held=held,
        captured=record.captured,
        refunded=refunded,
        hold=record.hold,
        action_url=payment.action_url if payment is not None else "",
        reason=record.reason,
        owed=record.owed,
        life=_provider_life(record, payment),
    )


def _provider_life(record: Record, payment: Payment | None) -> pb.Payment:
    """The fields of Payment about debts, disputes, suspense, and what persons did at the provider."""
    made = pb.Payment(owed_minor=record.owed)
    for dispute, one in sorted((record.disputes or {}).items()):
        shown = made.disputes.add(dispute=dispute, state=_DISPUTE_STATES[one.status], amount_minor=one.amount)
        if one.evidence_due_ms:
            shown.evidence_due_time.CopyFrom(timestamp(one.evidence_due_ms))
        if one.status is DisputeStatus.LOST:
            made.disputed_minor += one.withdrawn_amount
    made.external_refunds_minor = sum(one.amount for one in (record.external or {}).values())
    if payment is None:
        return made
    for debt in payment.debts.values():
        part = made.owed.add(
            amount_minor=debt.amount, reason=debt.reason, alarm=debt.alarm, hold=debt.hold, refund=debt.refund
        )
        if debt.next_ms:
            part.next_attempt_time.CopyFrom(timestamp(debt.next_ms))
    made.suspense_minor = sum(hold.suspense for hold in payment.holds.values())
    hold = payment.holds.get(payment.hold)
    if hold is not None and hold.held and hold.capture_before_ms:
        made.capture_before_time.CopyFrom(timestamp(hold.capture_before_ms))
    return made


def refund_of(payments: GroupPayments, order: str, refund: str) -> RefundView | None:
    """A refund by its id; None: no command with this id was decided."""
    record = payments.orders.get(order)
    known = (record.refunds or {}).get(refund) if record is not None else None
    if known is None:
        return None
    return RefundView(known.status, known.amount, known.reason, known.request_sha256, known.sent)


def _held(payment: Payment | None) -> int:
    hold = payment.holds.get(payment.hold) if payment is not None else None
    if payment is None or hold is None:
        return 0
    return hold.taken - hold.returned if payment.sale and not payment.captured else hold.held


def _refunded(record: Record, payment: Payment | None) -> int:
    if record.intent is not Intent.RELEASE or not record.captured:
        return record.refunded
    hold = payment.holds.get(record.hold) if payment is not None else None
    if hold is None or not hold.taken:
        # A complete release has returned everything that the provider did not decline to return.
        return max(record.captured - record.owed, 0)
    return record.refunded + max(hold.returned - max(hold.taken - record.captured, 0), 0)


def _state(record: Record, payment: Payment | None, held: int, refunded: int) -> PaymentState.ValueType:
    if record.captured:
        return _captured_state(record.captured, refunded)
    if record.declined:
        return pb.PAYMENT_STATE_DECLINED
    state = _STATES[status(record)]
    if state == pb.PAYMENT_STATE_REQUESTED and payment is not None and payment.action_url:
        # A renewal, or the authorisation of a released order, may need the shopper's confirmation as well.
        return pb.PAYMENT_STATE_ACTION_REQUIRED
    if state in (pb.PAYMENT_STATE_REQUESTED, pb.PAYMENT_STATE_ACTION_REQUIRED):
        return state
    if held:
        return pb.PAYMENT_STATE_AUTHORISED
    return pb.PAYMENT_STATE_LAPSED if record.lapsed else pb.PAYMENT_STATE_VOIDED


def _captured_state(captured: int, refunded: int) -> PaymentState.ValueType:
    if not refunded:
        return pb.PAYMENT_STATE_CAPTURED
    return pb.PAYMENT_STATE_REFUNDED if refunded >= captured else pb.PAYMENT_STATE_PARTLY_REFUNDED


def payment_message(name: str, payment: PaymentView, version: int, time_ms: int) -> pb.Payment:
    """A payment as a message. `name` is its resource name; version and time are those of its group's payments."""
    made = pb.Payment(
        name=name,
        state=payment.state,
        currency=payment.currency,
        amount_minor=payment.amount,
        held_minor=payment.held,
        captured_minor=payment.captured,
        refunded_minor=payment.refunded,
        hold=payment.hold,
        action_url=payment.action_url,
        reason=payment.reason,
        version=version,
        update_time=timestamp(time_ms),
        consistency_token=of_payments(name.split("/")[1], version),
    )
    made.MergeFrom(payment.life)
    return made


def timestamp(time_ms: int) -> Timestamp:
    """A time in milliseconds since the epoch. A later one than the year 9999, which a provider may report, is cut."""
    made = Timestamp()
    made.FromMilliseconds(min(time_ms, _LATEST_MS))
    return made
