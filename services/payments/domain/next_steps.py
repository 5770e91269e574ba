"""The steps that an order's intent still requires, given the state of its money. One rule for every input.

It returns money that may not be kept, captures money that is due, and reports that a release is complete. It requests
no step that is pending already, so it may run at any time; it runs after each input that changes an order.
"""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain import owed
from services.payments.domain.inputs.provider_news import report_lost_hold
from services.payments.domain.output import events
from services.payments.domain.state.model import GroupPayments, Intent, Payment

#: Stored in decisions: changing the text changes the log.
LAPSED_TWICE = "the hold lapsed before its capture, twice"


def next_steps(payments: GroupPayments, order: str) -> Iterator[PaymentEvent]:
    """Requests the steps that are missing."""
    payment = payments.payment(order)
    if payment is None:
        return
    if payment.debts:
        yield from owed.adjust_debts(order, payment)
    for reference in tuple(payment.holds):
        yield from _return_money(order, payment, reference)
    if payment.intent is Intent.RELEASE:
        yield from _release(order, payment)
    elif payment.intent is Intent.CAPTURE and not payment.declined and not payment.captured:
        yield from _charge(order, payment)
    elif payments.rules_version > 1:
        yield from report_lost_hold(order, payment)


def _return_money(order: str, payment: Payment, reference: str) -> Iterator[PaymentEvent]:
    """Returns what may not be kept of a hold: held money by a void, taken money by a refund."""
    hold = payment.holds[reference]
    if hold.held and payment.must_release(reference) and payment.pending_end(reference) is None:
        yield events.void_requested(order, payment, reference, hold.held, hold.currency)
    excess = payment.excess(reference)
    if excess > 0 and payment.pending_refund(reference, "") is None:
        yield events.refund_requested(order, payment, reference, excess, hold.currency)


def _release(order: str, payment: Payment) -> Iterator[PaymentEvent]:
    reference = payment.action_hold
    if reference and payment.pending_authorisation() is not None and payment.pending_end(reference) is None:
        # The hold is still empty. Once it is voided, the shopper can't confirm any more.
        yield events.void_requested(order, payment, reference, 0, payment.currency)
    if not payment.released and payment.idle() and not payment.debts and not payment.in_dispute():
        yield events.payment_released(order)


def _charge(order: str, payment: Payment) -> Iterator[PaymentEvent]:
    if payment.sale:
        # The sale took the money; the order is charged once the excess is refunded and nothing of it is owed.
        if payment.pending_refund(payment.hold, "") is None and payment.debt(payment.hold, "") is None:
            yield events.captured(order, payment, payment.to_capture, 0)
        return
    if payment.pending_authorisation() is not None or payment.pending_end(payment.hold) is not None:
        return
    if payment.holds[payment.hold].held:
        yield events.capture_requested(order, payment, payment.to_capture)
    elif not payment.renewed:
        yield events.hold_renewed(order, payment, payment.to_capture)
    else:
        yield events.capture_declined(order, payment.hold, LAPSED_TWICE)
