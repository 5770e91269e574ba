"""Events that say what was learned of an order's money, one maker each. Must never decide.

Amounts are in minor units and pass `minor`; times are in milliseconds since the epoch.
"""

from __future__ import annotations

from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain.amounts import minor
from services.payments.domain.model import Payment
from services.payments.domain.model_parts import Call


def action_required(order: str, action_url: str, hold: str) -> PaymentEvent:
    """The shopper must confirm."""
    event = PaymentEvent()
    body = event.action_required
    body.order = order
    body.action_url = action_url
    body.hold = hold
    return event


def hold_authorised(order: str, call: Call, hold: str, currency: str, capturable_until_ms: int) -> PaymentEvent:
    """The money that a call asked for is held, or taken by a sale."""
    event = PaymentEvent()
    body = event.hold_authorised
    body.order = order
    body.hold = hold
    body.amount_minor = minor(call.amount)
    body.currency = currency
    body.capturable_until_ms = capturable_until_ms
    body.attempt = call.attempt
    body.operation = call.operation
    return event


def hold_declined(order: str, reason: str) -> PaymentEvent:
    """Nothing is held, and nothing will be."""
    event = PaymentEvent()
    event.hold_declined.order = order
    event.hold_declined.reason = reason
    return event


def captured(order: str, payment: Payment, amount: int, released: int) -> PaymentEvent:
    """Money of the hold that counts was taken, the rest let go."""
    event = PaymentEvent()
    body = event.captured
    body.order = order
    body.hold = payment.hold
    body.amount_minor = minor(amount)
    body.released_minor = minor(released)
    body.currency = payment.currency
    return event


def capture_declined(order: str, hold: str, reason: str) -> PaymentEvent:
    """The order can't be charged."""
    event = PaymentEvent()
    body = event.capture_declined
    body.order = order
    body.hold = hold
    body.reason = reason
    return event


def voided(order: str, hold: str, amount: int, currency: str) -> PaymentEvent:
    """A hold was let go."""
    event = PaymentEvent()
    body = event.voided
    body.order = order
    body.hold = hold
    body.amount_minor = minor(amount)
    body.currency = currency
    return event


def hold_lapsed(order: str, hold: str, amount: int, currency: str) -> PaymentEvent:
    """A hold ended by itself."""
    event = PaymentEvent()
    body = event.hold_lapsed
    body.order = order
    body.hold = hold
    body.amount_minor = minor(amount)
    body.currency = currency
    return event


def refunded(order: str, hold: str, amount: int, currency: str, refund: str) -> PaymentEvent:
    """Money was given back."""
    event = PaymentEvent()
    body = event.refunded
    body.order = order
    body.hold = hold
    body.amount_minor = minor(amount)
    body.currency = currency
    body.refund = refund
    return event


def refund_declined(order: str, refund: str, reason: str, amount: int, request_sha256: bytes) -> PaymentEvent:
    """Money was not given back."""
    event = PaymentEvent()
    body = event.refund_declined
    body.order = order
    body.refund = refund
    body.reason = reason
    body.amount_minor = minor(amount)
    body.request_sha256 = request_sha256
    return event


def payment_released(order: str) -> PaymentEvent:
    """The release is done."""
    event = PaymentEvent()
    event.payment_released.order = order
    return event


def suspense_recorded(
    order: str, hold: str, amount: int, currency: str, reason: str, payment_method: str = ""
) -> PaymentEvent:
    """Money that nobody asked for, or with amount 0 an alarm about money that is booked elsewhere or did not move.

    `payment_method` names the provider that has it, for an order that has none of its own.
    """
    event = PaymentEvent()
    body = event.suspense_recorded
    body.order = order
    body.hold = hold
    body.amount_minor = minor(amount)
    body.currency = currency
    body.reason = reason
    body.payment_method = payment_method
    return event


def faulted(error: str) -> PaymentEvent:
    """The rules failed."""
    event = PaymentEvent()
    event.faulted.error = error
    return event
