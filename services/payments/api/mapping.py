"""Payments as the messages that callers see. Must never show a payment method."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.payments.v1.payments_pb2 import Payment, PaymentState

from services.payments.domain.view import PaymentView


def payment_message(name: str, payment: PaymentView, version: int, time_ms: int) -> Payment:
    """A payment as the API shows it; version and time are its purse's."""
    return Payment(
        name=name,
        state=PaymentState.Value(f"PAYMENT_STATE_{payment.state}"),
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
    )


def timestamp(time_ms: int) -> Timestamp:
    """A time in milliseconds since the epoch."""
    made = Timestamp()
    made.FromMilliseconds(time_ms)
    return made
