"""Events that ask a provider for something, now, again or later; each holds the whole call. Must never decide.

Amounts are in minor units and pass `minor`; times are in milliseconds since the epoch. Setting fields one by one is
twice as fast as nested constructors.
"""

from __future__ import annotations

from groupbuy.groups.v1.decisions_pb2 import SeatReserved
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentEvent, ProviderCall

from services.payments.domain.amounts import minor
from services.payments.domain.model import Payment, Record
from services.payments.domain.model_parts import SALE_PREFIX, Call


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
