"""What an order's intent still asks for, given what is known of its money. One rule for every input.

Whatever was learned, it is this that gives back what may not be kept, captures what is to be captured, and says when a
release is done. Must be called after every event that changes an order, and may be called at any time: it asks for
nothing that is under way already.
"""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain import events, requests
from services.payments.domain.model import GroupPayments, Payment
from services.payments.domain.model_parts import Intent

LAPSED_TWICE = "the hold lapsed before its capture, twice"


def next_steps(purse: GroupPayments, order: str) -> Iterator[PaymentEvent]:
    """Asks for what is missing."""
    payment = purse.payment(order)
    if payment is None:
        return
    for reference in tuple(payment.holds):
        yield from _let_go(order, payment, reference)
    if payment.intent is Intent.RELEASE:
        yield from _release(order, payment)
    elif payment.intent is Intent.CAPTURE and not payment.refused and not payment.captured:
        yield from _charge(order, payment)


def _let_go(order: str, payment: Payment, reference: str) -> Iterator[PaymentEvent]:
    """What may not stay of a hold goes back: held money by a void, taken money by a refund."""
    hold = payment.holds[reference]
    if hold.held and payment.must_go(reference) and payment.ending(reference) is None:
        yield requests.void_requested(order, payment, reference, hold.held, hold.currency)
    excess = payment.excess(reference)
    if excess > 0 and payment.refunding(reference, "") is None:
        yield requests.refund_requested(order, payment, reference, excess, hold.currency)


def _release(order: str, payment: Payment) -> Iterator[PaymentEvent]:
    reference = payment.action_hold
    if reference and payment.asking() is not None and payment.ending(reference) is None:
        # Nothing is held there yet; once it is let go the shopper can't confirm any more.
        yield requests.void_requested(order, payment, reference, 0, payment.currency)
    if not payment.released and payment.idle():
        yield events.payment_released(order)


def _charge(order: str, payment: Payment) -> Iterator[PaymentEvent]:
    if payment.sale:
        # The money was taken at once; what is too much of it goes back first.
        if payment.refunding(payment.hold, "") is None:
            yield events.captured(order, payment, payment.to_capture, 0)
        return
    if payment.asking() is not None or payment.ending(payment.hold) is not None:
        return
    if payment.holds[payment.hold].held:
        yield requests.capture_requested(order, payment, payment.to_capture)
    elif not payment.renewed:
        yield requests.hold_renewed(order, payment, payment.to_capture)
    else:
        yield events.capture_declined(order, payment.hold, LAPSED_TWICE)
