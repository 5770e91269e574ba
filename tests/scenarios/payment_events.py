"""Builders of the events of a group's payments. Amounts in minor units."""

from __future__ import annotations

from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from tests.scenarios.group_events import hold_of


def provider_call(order: str, operation: pb.Operation.ValueType, amount_minor: int) -> pb.ProviderCall:
    """The first call of an operation. All but the call that makes a hold name the hold."""
    hold = "" if operation == pb.OPERATION_AUTHORISE else hold_of(order)
    return pb.ProviderCall(
        order=order, operation=operation, attempt=1, amount_minor=amount_minor, currency="CNY", hold=hold
    )


def hold_requested(order: str, amount_minor: int) -> PaymentEvent:
    call = provider_call(order, pb.OPERATION_AUTHORISE, amount_minor)
    return PaymentEvent(hold_requested=pb.HoldRequested(call=call))


def capture_requested(order: str, amount_minor: int) -> PaymentEvent:
    call = provider_call(order, pb.OPERATION_CAPTURE, amount_minor)
    return PaymentEvent(capture_requested=pb.CaptureRequested(call=call))


def void_requested(order: str, amount_minor: int) -> PaymentEvent:
    return PaymentEvent(void_requested=pb.VoidRequested(call=provider_call(order, pb.OPERATION_VOID, amount_minor)))


def action_required(order: str, action_url: str = "https://pay.example/3ds") -> PaymentEvent:
    return PaymentEvent(action_required=pb.ActionRequired(order=order, action_url=action_url))


def hold_authorised(
    order: str, amount_minor: int, *, hold: str = "", currency: str = "CNY", **fields: Any
) -> PaymentEvent:
    hold = hold or hold_of(order)
    return PaymentEvent(
        hold_authorised=pb.HoldAuthorised(
            order=order, hold=hold, amount_minor=amount_minor, currency=currency, **fields
        )
    )


def hold_lost(order: str) -> PaymentEvent:
    return PaymentEvent(hold_lost=pb.HoldLost(order=order, hold="h1", reason="voided"))


def hold_declined(order: str, reason: str = "insufficient_funds") -> PaymentEvent:
    return PaymentEvent(hold_declined=pb.HoldDeclined(order=order, reason=reason))


def captured(
    order: str, amount_minor: int, released_minor: int = 0, *, hold: str = "", currency: str = "CNY"
) -> PaymentEvent:
    body = pb.Captured(
        order=order,
        hold=hold or hold_of(order),
        amount_minor=amount_minor,
        released_minor=released_minor,
        currency=currency,
    )
    return PaymentEvent(captured=body)


def capture_declined(order: str, reason: str = "card_expired", hold: str = "") -> PaymentEvent:
    return PaymentEvent(capture_declined=pb.CaptureDeclined(order=order, hold=hold, reason=reason))


def voided(order: str, amount_minor: int, hold: str = "", *, currency: str = "CNY") -> PaymentEvent:
    hold = hold or hold_of(order)
    return PaymentEvent(voided=pb.Voided(order=order, hold=hold, amount_minor=amount_minor, currency=currency))


def suspense_recorded(order: str, amount_minor: int, hold: str = "") -> PaymentEvent:
    hold = hold or hold_of(order)
    return PaymentEvent(suspense_recorded=pb.SuspenseRecorded(order=order, hold=hold, amount_minor=amount_minor))


def hold_lapsed(order: str, amount_minor: int) -> PaymentEvent:
    return PaymentEvent(hold_lapsed=pb.HoldLapsed(order=order, hold=hold_of(order), amount_minor=amount_minor))


def refunded(order: str, amount_minor: int, refund: str = "", hold: str = "") -> PaymentEvent:
    body = pb.Refunded(
        order=order, hold=hold or hold_of(order), amount_minor=amount_minor, refund=refund, currency="CNY"
    )
    return PaymentEvent(refunded=body)


def payment_released(order: str) -> PaymentEvent:
    return PaymentEvent(payment_released=pb.PaymentReleased(order=order))
