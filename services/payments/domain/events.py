"""Events of a purse, one maker each, and the calls inside of them. Must never decide.

Amounts are in minor units and pass `minor`; times are in milliseconds since the epoch. Setting fields one by one is
twice as fast as nested constructors.
"""

from __future__ import annotations

from groupbuy.groups.v1.decisions_pb2 import SeatReserved
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentEvent, ProviderCall

from services.payments.domain.money import minor
from services.payments.domain.parts import SALE_PREFIX, Call
from services.payments.domain.state import Payment, Record


def _fill(
    made: ProviderCall,
    order: str,
    record: Record,
    operation: Operation.ValueType,
    attempt: int,
    amount: int,
    currency: str,
    hold: str = "",
    refund: str = "",
) -> None:
    made.order = order
    made.operation = operation
    made.attempt = attempt
    made.amount_minor = minor(amount)
    made.currency = currency
    made.payment_method = record.method
    if isinstance(record, Payment):
        made.customer = record.customer
    made.hold = hold
    made.refund = refund


# Asked --------------------------------------------------------------------------------------------------------------


def hold_requested(seat: SeatReserved, attempt: int) -> PaymentEvent:
    """The money of a seat is to be held, or taken where the payment method knows no holds."""
    event = PaymentEvent()
    call = event.hold_requested.call
    call.order = seat.order
    sale = seat.payment_method.startswith(SALE_PREFIX)
    call.operation = pb.OPERATION_SALE if sale else pb.OPERATION_AUTHORISE
    call.attempt = attempt
    call.amount_minor = minor(seat.hold_amount_minor)
    call.currency = seat.currency
    call.payment_method = seat.payment_method
    call.customer = seat.customer
    call.hold_until_ms = seat.hold_until_ms
    return event


def hold_renewed(order: str, payment: Payment, amount: int) -> PaymentEvent:
    """A hold that lapsed before its capture is asked for once more, at the capture's amount."""
    event = PaymentEvent()
    call = event.hold_requested.call
    operation = pb.OPERATION_AUTHORISE
    _fill(call, order, payment, operation, payment.next_attempt(operation), amount, payment.currency)
    call.hold_until_ms = payment.hold_until_ms
    return event


def capture_requested(order: str, payment: Payment, amount: int) -> PaymentEvent:
    """Held money is to be taken."""
    event = PaymentEvent()
    operation = pb.OPERATION_CAPTURE
    call = event.capture_requested.call
    _fill(call, order, payment, operation, payment.next_attempt(operation), amount, payment.currency, payment.hold)
    return event


def void_requested(order: str, record: Record, hold: str, amount: int, currency: str) -> PaymentEvent:
    """A hold is to be let go."""
    event = PaymentEvent()
    operation = pb.OPERATION_VOID
    call = event.void_requested.call
    _fill(call, order, record, operation, record.next_attempt(operation), amount, currency, hold)
    return event


def release_noted(order: str, record: Record) -> PaymentEvent:
    """The durable mark that an order is to be let go as soon as that is possible.

    A VoidRequested of no hold and attempt 0: it asks the provider for nothing, so `calls_of` leaves it out.
    """
    event = PaymentEvent()
    _fill(event.void_requested.call, order, record, pb.OPERATION_VOID, 0, 0, record.currency)
    return event


def refund_requested(
    order: str, record: Record, hold: str, amount: int, currency: str, refund: str = "", request_sha256: bytes = b""
) -> PaymentEvent:
    """Taken money is to be given back: by command with the id of a refund, by the purse itself without."""
    event = PaymentEvent()
    operation = pb.OPERATION_REFUND
    body = event.refund_requested
    _fill(body.call, order, record, operation, record.next_attempt(operation), amount, currency, hold, refund)
    body.request_sha256 = request_sha256
    return event


# Asked again --------------------------------------------------------------------------------------------------------


def call_deferred(order: str, call: Call, attempt: int, retry_at_ms: int, error: str) -> PaymentEvent:
    """A call waits."""
    event = PaymentEvent()
    body = event.call_deferred
    body.order = order
    body.operation = call.operation
    body.attempt = attempt
    body.retry_at_ms = retry_at_ms
    body.deferrals = call.deferrals + 1
    body.error = error
    return event


def call_retried(order: str, payment: Payment, call: Call, attempt: int) -> PaymentEvent:
    """A call is made again, under the same attempt or the next one."""
    event = PaymentEvent()
    made = event.call_retried.call
    hold = payment.holds.get(call.hold)
    currency = hold.currency if hold is not None else payment.currency
    _fill(made, order, payment, call.operation, attempt, call.amount, currency, call.hold, call.refund)
    if not call.hold:
        made.hold_until_ms = payment.hold_until_ms
    return event


# Learned ------------------------------------------------------------------------------------------------------------


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


def suspense_recorded(order: str, hold: str, amount: int, currency: str, reason: str) -> PaymentEvent:
    """Money that nobody asked for, or with amount 0 an alarm about money that is booked elsewhere."""
    event = PaymentEvent()
    body = event.suspense_recorded
    body.order = order
    body.hold = hold
    body.amount_minor = minor(amount)
    body.currency = currency
    body.reason = reason
    return event


def faulted(error: str) -> PaymentEvent:
    """The rules failed."""
    event = PaymentEvent()
    event.faulted.error = error
    return event
