"""RefundPayment: appends a command to the payment inbox and answers with the decider's decision.

It refuses only what can't change. The amount that is left to refund is the decider's to judge.
"""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.payments.v1.inbox_pb2 import PaymentInput, RefundCommand
from groupbuy.payments.v1.payments_pb2 import Refund, RefundPaymentRequest

from chassis.rpc.streaming.call_deadline import CallDeadline, wait_until
from chassis.rpc.trace_context import TraceStarter
from eventlog.producing.publisher import RecordPublisher
from eventlog.producing.record_accumulator import Record
from eventlog.records.envelope import headers
from services.payments.api import errors
from services.payments.api.mapping import REFUND_STATES, RefundView, payment_message, payment_of, refund_of
from services.payments.api.names import PaymentName, parse_payment, refund_id, request_digest
from services.payments.api.ports import PaymentsView
from services.payments.domain.rules_version import CURRENT
from services.payments.domain.state.model import RefundStatus
from shared_kernel.topics import PAYMENT_INBOX

SOURCE = "/groupbuy/payments"
#: Seconds to wait for the broker's acknowledgement, at most what the caller's deadline leaves.
PUBLISH_S = 10.0


class RefundHandler:
    """Handles RefundPayment."""

    def __init__(
        self,
        view: PaymentsView,
        publisher: RecordPublisher,
        now_ms: Callable[[], int],
        trace_starter: TraceStarter,
        rules_version: int = CURRENT,
    ) -> None:
        """`rules_version` is that of new groups."""
        self._rules_version = rules_version
        self._view = view
        self._publisher = publisher
        self._now_ms = now_ms
        self._trace_starter = trace_starter

    async def refund(self, request: RefundPaymentRequest, deadline: CallDeadline) -> Refund:
        """The refund, once it is decided. A retry of the request returns the same refund. Raises ApiError."""
        name = parse_payment(request.name)
        refund, digest = refund_id(name.order, request.request_id), request_digest(request)
        self._check(name, request)
        if self._find(name, refund) is None:
            await self._append(name, refund, digest, request, deadline)
        try:
            within_s = deadline.left_s()
            found = await wait_until(self._view.notifier, name.group, lambda: self._find(name, refund), within_s)
        except TimeoutError:
            raise errors.result_pending(str(name)) from None
        if found.request_sha256 != digest:
            raise errors.request_id_reused(str(name))
        if found.status is RefundStatus.DECLINED and not found.sent:
            raise errors.not_refundable(str(name), found.reason)
        return self._message(name, refund, found)

    def _check(self, name: PaymentName, request: RefundPaymentRequest) -> None:
        aggregate = self._view.get(name.group)
        payment = payment_of(aggregate.state, name.order) if aggregate is not None else None
        if payment is None:
            raise errors.payment_not_found(str(name))
        if request.currency not in ("", payment.currency):
            raise errors.currency_mismatch(request.currency, payment.currency)

    def _find(self, name: PaymentName, refund: str) -> RefundView | None:
        aggregate = self._view.get(name.group)
        return refund_of(aggregate.state, name.order, refund) if aggregate is not None else None

    async def _append(
        self, name: PaymentName, refund: str, digest: bytes, request: RefundPaymentRequest, deadline: CallDeadline
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
        ce_id = f"{name.order}:refund:{refund}"
        made = headers(ce_id, kind, SOURCE, self._now_ms(), str(name))
        self._trace_starter.add_to(made, name.order, SOURCE, ce_id)
        value = PaymentInput(refund=command, rules_version=self._rules_version).SerializeToString()
        record = Record(name.group, value, made)
        await self._publisher.publish(PAYMENT_INBOX.name, record, timeout_s=deadline.left_s(PUBLISH_S))

    def _message(self, name: PaymentName, refund: str, found: RefundView) -> Refund:
        aggregate = self._view.get(name.group)
        payment = payment_of(aggregate.state, name.order) if aggregate is not None else None
        if aggregate is None or payment is None:
            raise errors.payment_not_found(str(name))
        return Refund(
            name=f"{name}/refunds/{refund}",
            state=REFUND_STATES[found.status],
            amount_minor=found.amount,
            currency=payment.currency,
            reason=found.reason,
            payment=payment_message(str(name), payment, aggregate.version, aggregate.time_ms),
        )
