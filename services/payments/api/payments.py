"""PaymentService: shows payments as their decider has them. Must never move money, nor show a payment method."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.errors.v1 import errors_pb2
from groupbuy.payments.v1.payments_pb2 import GetPaymentRequest, Payment, PaymentState
from groupbuy.payments.v1.payments_pb2_grpc import PaymentServiceServicer

from chassis.errors import ApiError
from services.payments.api.ports import PursesView
from services.payments.domain.view import PaymentView, payment_of

Context = grpc.aio.ServicerContext[Any, Any]


class PaymentServicer(PaymentServiceServicer):
    """The service `groupbuy.payments.v1.PaymentService`."""

    def __init__(self, view: PursesView) -> None:
        self._view = view

    async def GetPayment(self, request: GetPaymentRequest, context: Context) -> Payment:
        """The payment of one order."""
        group, order = _parsed(request.name)
        aggregate = self._view.get(group)
        found = None if aggregate is None else payment_of(aggregate.state, order)
        if aggregate is None or found is None:
            raise ApiError(
                grpc.StatusCode.NOT_FOUND,
                errors_pb2.ERROR_REASON_PAYMENT_NOT_FOUND,
                f"there is no {request.name} yet: no money was asked for",
                metadata={"payment": request.name},
            )
        return payment_message(request.name, found, aggregate.version, aggregate.time_ms)


def payment_message(name: str, payment: PaymentView, version: int, time_ms: int) -> Payment:
    """A payment as the API shows it; version and time are its purse's."""
    update_time = Timestamp()
    update_time.FromMilliseconds(time_ms)
    return Payment(
        name=name,
        state=PaymentState.Value(f"PAYMENT_STATE_{payment.state}"),
        currency=payment.currency,
        amount_minor=payment.amount,
        held_minor=payment.held,
        captured_minor=payment.captured,
        refunded_minor=payment.refunded,
        hold=payment.hold,
        action_url=payment.action_url,
        reason=payment.reason,
        version=version,
        update_time=update_time,
    )


def _parsed(name: str) -> tuple[str, str]:
    """`groups/{group}/orders/{order}/payment` -> group, order. Raises ApiError."""
    match name.split("/"):
        case ["groups", group, "orders", order, "payment"]:
            return group, order
    wrong = "not groups/{group}/orders/{order}/payment"
    raise ApiError(
        grpc.StatusCode.INVALID_ARGUMENT,
        errors_pb2.ERROR_REASON_INVALID_FIELDS,
        f"name: {wrong}",
        fields=[("name", wrong)],
    )
