"""The status of a payment, derived from the payment log alone.

The names are those of docs/transitions.md. The audit imports no service, so it has this table of its own;
tests/unit/payments/test_status.py compares both after every decision.
"""

from __future__ import annotations

from ops.audit.money.holds import Intent, Payment

STATUSES = (
    "UNKNOWN",
    "REQUESTED",
    "DEFERRED",
    "ACTION_REQUIRED",
    "AUTHORISED",
    "LAPSED",
    "HOLD_DECLINED",
    "CAPTURING",
    "RENEWING",
    "CAPTURED",
    "CAPTURE_DECLINED",
    "REFUNDING",
    "RELEASING",
    "VOIDING",
    "RETURNING",
    "RELEASED",
    "SALE_REQUESTED",
    "SALE_ACTION_REQUIRED",
    "SALE_TAKEN",
    "SALE_SETTLING",
    "SALE_RETURNING",
    "OWED",
)


def status_of(payment: Payment) -> str:
    """The status, one of STATUSES."""
    match payment.intent:
        case Intent.NONE:
            return "UNKNOWN"
        case Intent.HOLD:
            return _hold(payment)
        case Intent.CAPTURE:
            return _capture(payment)
    return _release(payment)


def _hold(payment: Payment) -> str:
    if payment.failed:
        return "HOLD_DECLINED"
    if "hold" in payment.pending:
        prefix = "SALE_" if payment.sale else ""
        if payment.action_url:
            return f"{prefix}ACTION_REQUIRED"
        return "DEFERRED" if payment.hold_deferred and not payment.sale else f"{prefix}REQUESTED"
    if payment.sale:
        return "SALE_TAKEN"
    hold = payment.holds.get(payment.hold)
    return "AUTHORISED" if hold is not None and hold.open > 0 else "LAPSED"


def _capture(payment: Payment) -> str:
    if payment.failed:
        return "CAPTURE_DECLINED"
    if payment.captured:
        commanded = any(call.startswith("refund ") for call in payment.pending)
        return "REFUNDING" if commanded else "CAPTURED"
    if "hold" in payment.pending:
        return "RENEWING"
    if payment.sale:
        return "OWED" if payment.debts and f"return {payment.hold}" not in payment.pending else "SALE_SETTLING"
    return "CAPTURING"


def _release(payment: Payment) -> str:
    pending = payment.pending
    if payment.released:
        return "RELEASED"
    if "hold" in pending:
        return "RELEASING"
    if "capture" in pending or f"void {payment.hold}" in pending:
        return "VOIDING"
    if payment.debts and not pending:
        return "OWED"
    if payment.returns or (pending and not any(call.startswith("void ") for call in pending)):
        return "SALE_RETURNING" if payment.sale else "RETURNING"
    return "VOIDING"
