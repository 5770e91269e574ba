"""Constructors of payment events, and the provider calls that a decision requests.

Amounts are in minor units and checked by `minor`; times are in milliseconds since the epoch. Setting fields one by one
is twice as fast as nested constructors.
"""

from __future__ import annotations

from groupbuy.groups.v1.decisions_pb2 import SeatReserved
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentEvent, ProviderCall

from services.payments.domain.errors import AmountOutOfRange
from services.payments.domain.state.model import CHECK, SALE_PREFIX, Call, Payment, Record

#: The largest amount that the log can hold, in minor units.
MAX_MINOR = (1 << 63) - 1


def minor(amount: int) -> int:
    """The amount itself. Raises AmountOutOfRange."""
    if 0 <= amount <= MAX_MINOR:
        return amount
    raise AmountOutOfRange(f"{amount} is not an amount of minor units")


# Results of the provider --------------------------------------------------------------------------------------------


def action_required(order: str, action_url: str, hold: str) -> PaymentEvent:
    """The shopper must confirm the payment."""
    event = PaymentEvent()
    body = event.action_required
    body.order = order
    body.action_url = action_url
    body.hold = hold
    return event


def hold_authorised(order: str, call: Call, hold: str, currency: str, capturable_until_ms: int) -> PaymentEvent:
    """The amount of a call is held, or taken by a sale."""
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
    """The order has no hold, and no further one is requested."""
    event = PaymentEvent()
    event.hold_declined.order = order
    event.hold_declined.reason = reason
    return event


def captured(order: str, payment: Payment, amount: int, released: int) -> PaymentEvent:
    """Money of the order's hold was taken, and the rest of the hold released."""
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
    """A hold was released on request."""
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


def refunded(
    order: str, hold: str, amount: int, currency: str, refund: str, attempt: int = 0, excess: int = 0
) -> PaymentEvent:
    """Taken money was refunded; `excess` of it was not due any more. Version 1 names neither this nor an attempt."""
    event = PaymentEvent()
    body = event.refunded
    body.order = order
    body.hold = hold
    body.amount_minor = minor(amount)
    body.currency = currency
    body.refund = refund
    body.attempt = attempt
    body.excess_minor = minor(excess)
    return event


def refund_declined(
    order: str, refund: str, reason: str, amount: int, request_sha256: bytes, attempt: int = 0
) -> PaymentEvent:
    """A refund was declined, by the provider or by our own rules. Rules version 1 names no attempt."""
    event = PaymentEvent()
    body = event.refund_declined
    body.order = order
    body.refund = refund
    body.reason = reason
    body.amount_minor = minor(amount)
    body.request_sha256 = request_sha256
    body.attempt = attempt
    return event


def payment_released(order: str) -> PaymentEvent:
    """The release is complete."""
    event = PaymentEvent()
    event.payment_released.order = order
    return event


def suspense_recorded(
    order: str,
    hold: str,
    amount: int,
    currency: str,
    reason: str,
    payment_method: str = "",
    return_at_ms: int = 0,
    *,
    taken: bool = False,
) -> PaymentEvent:
    """Unexpected funds; with amount 0 an alarm about money that is booked elsewhere or did not move.

    `payment_method` names the provider that has the money, for an order without a payment method.
    """
    event = PaymentEvent()
    body = event.suspense_recorded
    body.order = order
    body.hold = hold
    body.amount_minor = minor(amount)
    body.currency = currency
    body.reason = reason
    body.payment_method = payment_method
    body.return_at_ms = return_at_ms
    body.taken = taken
    return event


def faulted(error: str) -> PaymentEvent:
    """The rules failed on an input."""
    event = PaymentEvent()
    event.faulted.error = error
    return event


# Requests to the provider; each holds the whole call ----------------------------------------------------------------


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
        known = record.holds.get(hold)
        if known is not None and known.stray:
            made.returns_suspense = True
    made.hold = hold
    made.refund = refund


def hold_requested(seat: SeatReserved, attempt: int, check_at_ms: int = 0) -> PaymentEvent:
    """Authorise the amount of a seat, or take it where the payment method has no holds."""
    event = PaymentEvent()
    event.hold_requested.check_at_ms = check_at_ms
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
    """Authorise anew, at the capture's amount, after a hold lapsed before its capture."""
    event = PaymentEvent()
    call = event.hold_requested.call
    operation = pb.OPERATION_AUTHORISE
    _fill(call, order, payment, operation, payment.next_attempt(operation), amount, payment.currency)
    call.hold_until_ms = payment.hold_until_ms
    return event


def capture_requested(order: str, payment: Payment, amount: int) -> PaymentEvent:
    """Capture held money."""
    event = PaymentEvent()
    operation = pb.OPERATION_CAPTURE
    call = event.capture_requested.call
    _fill(call, order, payment, operation, payment.next_attempt(operation), amount, payment.currency, payment.hold)
    return event


def hold_check_requested(order: str, payment: Payment) -> PaymentEvent:
    """Ask for the state of the order's hold."""
    event = PaymentEvent()
    operation, attempt = CHECK
    held = payment.holds[payment.hold].held
    call = event.hold_check_requested.call
    _fill(call, order, payment, operation, attempt, held, payment.currency, payment.hold)
    return event


def void_requested(
    order: str, record: Record, hold: str, amount: int, currency: str, *, approved: bool = False
) -> PaymentEvent:
    """Release a hold."""
    event = PaymentEvent()
    operation = pb.OPERATION_VOID
    call = event.void_requested.call
    call.approved = approved
    _fill(call, order, record, operation, record.next_attempt(operation), amount, currency, hold)
    return event


def release_noted(order: str, record: Record) -> PaymentEvent:
    """The durable mark that an order is to be released as soon as that is possible.

    It is a VoidRequested without a hold and with attempt 0: `calls_of` leaves it out, so no call is made.
    """
    event = PaymentEvent()
    _fill(event.void_requested.call, order, record, pb.OPERATION_VOID, 0, 0, record.currency)
    return event


def refund_requested(
    order: str,
    record: Record,
    hold: str,
    amount: int,
    currency: str,
    refund: str = "",
    request_sha256: bytes = b"",
    *,
    approved: bool = False,
) -> PaymentEvent:
    """Refund taken money; `refund` is the id of the command, empty for a refund without one."""
    event = PaymentEvent()
    operation = pb.OPERATION_REFUND
    body = event.refund_requested
    body.call.approved = approved
    _fill(body.call, order, record, operation, record.next_attempt(operation), amount, currency, hold, refund)
    body.request_sha256 = request_sha256
    return event


def call_deferred(
    order: str, call: Call, attempt: int, retry_at_ms: int, error: str, *, alarm: bool = False
) -> PaymentEvent:
    """A call waits for its retry."""
    event = PaymentEvent()
    body = event.call_deferred
    body.order = order
    body.operation = call.operation
    body.attempt = attempt
    body.retry_at_ms = retry_at_ms
    body.deferrals = call.deferrals + 1
    body.error = error
    body.alarm = alarm
    return event


def call_retried(order: str, payment: Payment, call: Call, attempt: int, *, approved: bool = False) -> PaymentEvent:
    """A call is made again, under the same attempt or the next one."""
    event = PaymentEvent()
    made = event.call_retried.call
    made.approved = approved or call.approved
    hold = payment.holds.get(call.hold)
    currency = hold.currency if hold is not None else payment.currency
    _fill(made, order, payment, call.operation, attempt, call.amount, currency, call.hold, call.refund)
    if not call.hold:
        made.hold_until_ms = payment.hold_until_ms
    return event
