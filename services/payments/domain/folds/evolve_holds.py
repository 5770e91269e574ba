"""Applies the events of holds: authorisation, capture and release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as pb

from services.payments.domain.folds.evolve_calls import add_call, clear_action, drop_calls
from services.payments.domain.state.model import HOLD_ENDING, HOLD_OPENING, Hold, Intent, Payment

# Authorisation ------------------------------------------------------------------------------------------------------


def _hold_requested(payment: Payment, body: pb.HoldRequested) -> None:
    made = body.call
    if payment.intent is Intent.NONE:
        payment.intent = Intent.HOLD
        payment.sale = made.operation == pb.OPERATION_SALE
        payment.amount = made.amount_minor
        payment.currency = made.currency
        payment.method = made.payment_method
        payment.customer = made.customer
        payment.hold_until_ms = made.hold_until_ms
        payment.check_at_ms = body.check_at_ms
    else:
        payment.renewed = True
        payment.intent = Intent.CAPTURE
        payment.to_capture = made.amount_minor
    add_call(payment, made)


def _action_required(payment: Payment, body: pb.ActionRequired) -> None:
    payment.action_url = body.action_url
    payment.action_hold = body.hold


def _hold_authorised(payment: Payment, body: pb.HoldAuthorised) -> None:
    payment.calls.pop((body.operation, body.attempt), None)
    clear_action(payment)
    payment.hold = body.hold
    payment.lapsed = False
    hold = payment.holds.setdefault(body.hold, Hold(body.currency))
    if body.operation == pb.OPERATION_SALE:
        hold.taken = body.amount_minor
        # Taken money can't be voided, only refunded.
        drop_calls(payment, HOLD_ENDING, body.hold)
    else:
        hold.held = body.amount_minor
        hold.capture_before_ms = body.capturable_until_ms


def _hold_check_requested(payment: Payment, body: pb.HoldCheckRequested) -> None:
    payment.check_at_ms = 0
    add_call(payment, body.call)


def _hold_checked(payment: Payment, body: pb.HoldChecked) -> None:
    payment.calls.pop((pb.OPERATION_CHECK, body.attempt), None)


def _decline(payment: Payment, reason: str) -> None:
    payment.declined = True
    payment.reason = reason
    drop_calls(payment, HOLD_OPENING)
    clear_action(payment)


def _hold_declined(payment: Payment, body: pb.HoldDeclined) -> None:
    # The hold that the confirmation was to open does not exist, so its void is obsolete.
    if payment.action_hold:
        drop_calls(payment, HOLD_ENDING, payment.action_hold)
    _decline(payment, body.reason)


# Capture ------------------------------------------------------------------------------------------------------------


def _capture_requested(payment: Payment, body: pb.CaptureRequested) -> None:
    payment.intent = Intent.CAPTURE
    payment.to_capture = body.call.amount_minor
    add_call(payment, body.call)


def _captured(payment: Payment, body: pb.Captured) -> None:
    if payment.intent is Intent.HOLD:
        # A sale is settled at exactly the amount that it took.
        payment.intent = Intent.CAPTURE
        payment.to_capture = body.amount_minor
    payment.captured = body.amount_minor
    hold = payment.holds.setdefault(body.hold, Hold(body.currency))
    if not payment.sale:
        hold.held = 0
        hold.taken += body.amount_minor
    if payment.external:
        # Persons returned more than the difference to the charge: the rest is a refund of the charge.
        above = max(hold.returned - (hold.taken - body.amount_minor), 0)
        payment.refunded += above
        hold.returned -= above
    drop_calls(payment, HOLD_ENDING, body.hold)


def _capture_declined(payment: Payment, body: pb.CaptureDeclined) -> None:
    drop_calls(payment, frozenset({pb.OPERATION_CAPTURE}))
    _decline(payment, body.reason)


# Release ------------------------------------------------------------------------------------------------------------


def _void_requested(payment: Payment, body: pb.VoidRequested) -> None:
    made = body.call
    reference = made.hold
    if not reference:
        payment.intent = Intent.RELEASE
        return
    if payment.intent is Intent.HOLD and not payment.declined and reference in (payment.hold, payment.action_hold):
        payment.intent = Intent.RELEASE
    hold = payment.holds.setdefault(reference, Hold(made.currency))
    hold.held += hold.suspense
    hold.suspense = hold.return_at_ms = 0
    # A void follows a capture of the same hold only after the capture was declined for good.
    drop_calls(payment, HOLD_ENDING, reference)
    add_call(payment, made)


def _end_hold(payment: Payment, reference: str) -> None:
    hold = payment.holds.get(reference)
    if hold is not None:
        hold.held = 0
        if not hold.suspense_taken:
            hold.suspense = 0
    drop_calls(payment, HOLD_ENDING, reference)
    if reference == payment.action_hold:
        drop_calls(payment, HOLD_OPENING)
        clear_action(payment)


def _voided(payment: Payment, body: pb.Voided) -> None:
    _end_hold(payment, body.hold)


def _hold_lapsed(payment: Payment, body: pb.HoldLapsed) -> None:
    _end_hold(payment, body.hold)
    if body.hold == payment.hold:
        payment.lapsed = True


def _payment_released(payment: Payment, body: pb.PaymentReleased) -> None:
    payment.intent = Intent.RELEASE
    payment.released = True
    drop_calls(payment, HOLD_OPENING)
    clear_action(payment)


FOLDS: dict[str, Callable[[Payment, Any], None]] = {
    "hold_requested": _hold_requested,
    "action_required": _action_required,
    "hold_authorised": _hold_authorised,
    "hold_declined": _hold_declined,
    "hold_check_requested": _hold_check_requested,
    "hold_checked": _hold_checked,
    "capture_requested": _capture_requested,
    "captured": _captured,
    "capture_declined": _capture_declined,
    "void_requested": _void_requested,
    "voided": _voided,
    "hold_lapsed": _hold_lapsed,
    "payment_released": _payment_released,
}
