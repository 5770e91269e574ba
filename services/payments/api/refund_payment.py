"""RefundPayment: a command into the payment inbox, answered with what the decider made of it.

Must never decide by itself whether there is money left: only what can't change is refused at the edge.
"""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.payments.v1 import payments_pb2 as pb
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, RefundCommand
from groupbuy.payments.v1.payments_pb2 import Refund, RefundPaymentRequest

from chassis.rpc.call_deadline import CallDeadline, until
from eventlog.producing.publisher import Publishes
from eventlog.producing.record_accumulator import Record
from eventlog.records.envelope import headers
from services.payments.api import errors as refusals
from services.payments.api.mapping import payment_message
from services.payments.api.names import PaymentName, parse_payment, refund_id, request_digest
from services.payments.api.ports import PursesView
from services.payments.domain.model_parts import RefundStatus
from services.payments.domain.view import RefundView, payment_of, refund_of
from shared_kernel.topics import PAYMENT_INBOX

SOURCE = "/groupbuy/payments"
#: Seconds for the broker to acknowledge, where the caller's deadline leaves them.
PUBLISH_S = 10.0

_STATES = {
    RefundStatus.UNDER_WAY: pb.REFUND_STATE_PENDING,
    RefundStatus.DONE: pb.REFUND_STATE_SUCCEEDED,
    RefundStatus.DECLINED: pb.REFUND_STATE_DECLINED,
}


class RefundHandler:
    """The way of a refund into the log and back."""

    def __init__(self, view: PursesView, publisher: Publishes, now_ms: Callable[[], int]) -> None:
        self._view = view
        self._publisher = publisher
        self._now_ms = now_ms

    async def refund(self, request: RefundPaymentRequest, patience: CallDeadline) -> Refund:
        """The refund once it is decided. The same request again answers with the same refund."""
        name = parse_payment(request.name)
        refund, digest = refund_id(name.order, request.request_id), request_digest(request)
        self._check(name, request)
        if self._found(name, refund) is None:
            await self._ask(name, refund, digest, request, patience)
        try:
            within_s = patience.left_s()
            found = await until(self._view.watchers, name.group, lambda: self._found(name, refund), within_s)
        except TimeoutError:
            raise refusals.answer_pending(str(name)) from None
        if found.request_sha256 != digest:
            raise refusals.request_id_reused(str(name))
        if found.status is RefundStatus.DECLINED and not found.asked:
            raise refusals.not_refundable(str(name), found.reason)
        return self._message(name, refund, found)

    def _check(self, name: PaymentName, request: RefundPaymentRequest) -> None:
        aggregate = self._view.get(name.group)
        payment = payment_of(aggregate.state, name.order) if aggregate is not None else None
        if payment is None:
            raise refusals.payment_not_found(str(name))
        if request.currency not in ("", payment.currency):
            raise refusals.currency_mismatch(request.currency, payment.currency)

    def _found(self, name: PaymentName, refund: str) -> RefundView | None:
        aggregate = self._view.get(name.group)
        return refund_of(aggregate.state, name.order, refund) if aggregate is not None else None

    async def _ask(
        self, name: PaymentName, refund: str, digest: bytes, request: RefundPaymentRequest, patience: CallDeadline
    ) -> None:
        command = RefundCommand(
            order=name.order,
            refund=refund,
            amount_minor=request.amount_minor,
            reason=request.reason,
            request_sha256=digest,
            currency=request.currency,
        )
        kind = RefundCommand.DESCRIPTOR.full_name
        made = headers(f"{name.order}:refund:{refund}", kind, SOURCE, self._now_ms(), str(name))
        record = Record(name.group, PaymentInput(refund=command).SerializeToString(), made)
        await self._publisher.publish(PAYMENT_INBOX.name, record, timeout_s=patience.left_s(PUBLISH_S))

    def _message(self, name: PaymentName, refund: str, found: RefundView) -> Refund:
        aggregate = self._view.get(name.group)
        payment = payment_of(aggregate.state, name.order) if aggregate is not None else None
        if aggregate is None or payment is None:
            raise refusals.payment_not_found(str(name))
        return Refund(
            name=f"{name}/refunds/{refund}",
            state=_STATES[found.status],
            amount_minor=found.amount,
            currency=payment.currency,
            reason=found.reason,
            payment=payment_message(str(name), payment, aggregate.version, aggregate.time_ms),
        )
