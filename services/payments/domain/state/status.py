"""The status of an order's payment: one total function of its state.

docs/transitions.md, the API (api/mapping.py) and the simulation use these names; the audit derives the same names from
the log alone (ops/audit/money/status.py), and a test compares them.
"""

from __future__ import annotations

from enum import StrEnum

from groupbuy.payments.v1 import decisions_pb2 as pb

from services.payments.domain.state.model import HOLD_ENDING, Call, Intent, Payment, Record


class Status(StrEnum):
    """Every status of a payment. services/payments/domain/transitions.py says what each means."""

    UNKNOWN = "UNKNOWN"
    REQUESTED = "REQUESTED"
    DEFERRED = "DEFERRED"
    ACTION_REQUIRED = "ACTION_REQUIRED"
    AUTHORISED = "AUTHORISED"
    LAPSED = "LAPSED"
    HOLD_DECLINED = "HOLD_DECLINED"
    CAPTURING = "CAPTURING"
    RENEWING = "RENEWING"
    CAPTURED = "CAPTURED"
    CAPTURE_DECLINED = "CAPTURE_DECLINED"
    REFUNDING = "REFUNDING"
    RELEASING = "RELEASING"
    VOIDING = "VOIDING"
    RETURNING = "RETURNING"
    RELEASED = "RELEASED"
    SALE_REQUESTED = "SALE_REQUESTED"
    SALE_ACTION_REQUIRED = "SALE_ACTION_REQUIRED"
    SALE_TAKEN = "SALE_TAKEN"
    SALE_SETTLING = "SALE_SETTLING"
    SALE_RETURNING = "SALE_RETURNING"
    OWED = "OWED"


def status(payment: Record | None) -> Status:
    """The status of a payment; None: of an order that nothing is known of."""
    return status_and_call(payment)[0]


def status_and_call(payment: Record | None) -> tuple[Status, Call | None]:
    """The status, and the pending call whose result ends it; None: no call does."""
    if payment is None or payment.intent is Intent.NONE:
        return Status.UNKNOWN, None
    live = payment if isinstance(payment, Payment) else _NO_CALLS
    if payment.intent is Intent.HOLD:
        return _hold(payment, live)
    if payment.intent is Intent.CAPTURE:
        return _capture(payment, live)
    return _release(payment, live)


#: Stands for a record, which has no holds and no calls.
_NO_CALLS = Payment()


def _hold(record: Record, payment: Payment) -> tuple[Status, Call | None]:
    if record.declined:
        return Status.HOLD_DECLINED, None
    call = payment.pending_authorisation()
    if call is None:
        if record.sale:
            return Status.SALE_TAKEN, None
        hold = payment.holds.get(record.hold)
        return (Status.AUTHORISED if hold is not None and hold.held else Status.LAPSED), None
    if payment.action_url:
        return (Status.SALE_ACTION_REQUIRED if record.sale else Status.ACTION_REQUIRED), call
    if record.sale:
        return Status.SALE_REQUESTED, call
    return (Status.DEFERRED if call.retry_at_ms else Status.REQUESTED), call


def _capture(record: Record, payment: Payment) -> tuple[Status, Call | None]:
    if record.declined:
        return Status.CAPTURE_DECLINED, payment.pending_end(record.hold)
    if record.captured:
        refund = next((call for call in payment.calls.values() if call.refund), None)
        return (Status.CAPTURED if refund is None else Status.REFUNDING), refund
    if (call := payment.pending_authorisation()) is not None:
        return Status.RENEWING, call
    if record.sale:
        call = payment.pending_refund(record.hold, "")
        return (Status.OWED if call is None and payment.debts else Status.SALE_SETTLING), call
    return Status.CAPTURING, payment.pending_end(record.hold)


def _release(record: Record, payment: Payment) -> tuple[Status, Call | None]:
    if record.released:
        return Status.RELEASED, None
    if (call := payment.pending_authorisation()) is not None:
        return Status.RELEASING, call
    if (call := payment.pending_end(record.hold)) is not None:
        return Status.VOIDING, call
    returning = Status.SALE_RETURNING if record.sale else Status.RETURNING
    for call in payment.calls.values():
        if call.operation == pb.OPERATION_REFUND and not call.refund:
            return returning, call
    # Only further holds, or commanded refunds, delay the release.
    voids = (call for call in payment.calls.values() if call.operation in HOLD_ENDING)
    if (call := next(voids, None)) is not None:
        return Status.VOIDING, call
    call = next(iter(payment.calls.values()), None)
    waiting = Status.OWED if payment.debts else Status.VOIDING
    return (waiting if call is None else returning), call
