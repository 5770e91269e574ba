"""PaymentService: reads payments and the ledger, and appends refund commands and notifications to the payment inbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from groupbuy.payments.v1.ledger_pb2 import (
    GetBalancesRequest,
    GetBalancesResponse,
    ListEntriesRequest,
    ListEntriesResponse,
)
from groupbuy.payments.v1.payments_pb2 import (
    GetPaymentRequest,
    ListPaymentsRequest,
    ListPaymentsResponse,
    NotifyPaymentRequest,
    NotifyPaymentResponse,
    Payment,
    Refund,
    RefundPaymentRequest,
)
from groupbuy.payments.v1.payments_pb2_grpc import PaymentServiceServicer

from chassis.routing.partition_router import LocalRouter
from chassis.rpc.pagination import Key, PageRequest, PageSize
from chassis.rpc.streaming.call_deadline import CallDeadline
from chassis.rpc.trace_context import TraceStarter
from eventlog.producing.publisher import RecordPublisher
from eventlog.runtime.wall_clock import wall_clock_ms
from services.payments.api import errors
from services.payments.api.ledger_queries import LedgerQueries
from services.payments.api.mapping import PaymentView, payment_message, payment_of
from services.payments.api.names import PaymentName, parse_payment
from services.payments.api.ports import LedgerView, PaymentsView
from services.payments.api.refund_payment import PUBLISH_S, RefundHandler
from services.payments.api.webhook_ingest import WebhookIngest
from services.payments.domain.rules_version import CURRENT

Context = grpc.aio.ServicerContext[Any, Any]

PAGE_SIZE = PageSize(default=50, limit=500)


class PaymentServicer(PaymentServiceServicer):
    """The service `groupbuy.payments.v1.PaymentService`."""

    def __init__(
        self,
        view: PaymentsView,
        publisher: RecordPublisher,
        ingest: WebhookIngest,
        ledger: LedgerView,
        now_ms: Callable[[], int] = wall_clock_ms,
        router: LocalRouter | None = None,
        ledger_router: LocalRouter | None = None,
        trace_starter: TraceStarter | None = None,
        rules_version: int = CURRENT,
    ) -> None:
        """`router` finds the owners of the decider's partitions, `ledger_router` those of the ledger's; `rules_version`
        is that of new groups."""
        self._router = router or LocalRouter()
        self._view = view
        self._refunds = RefundHandler(view, publisher, now_ms, trace_starter or TraceStarter(), rules_version)
        self._ingest = ingest
        self._ledger = LedgerQueries(ledger, ledger_router or LocalRouter())

    async def GetPayment(self, request: GetPaymentRequest, context: Context) -> Payment:
        """The payment of one order."""
        group, order = parse_payment(request.name)

        async def here() -> Payment:
            aggregate = self._view.get(group)
            found = None if aggregate is None else payment_of(aggregate.state, order)
            if aggregate is None or found is None:
                raise errors.payment_not_found(request.name)
            return payment_message(request.name, found, aggregate.version, aggregate.time_ms)

        return await self._router.call_owner("GetPayment", group, request, context, here)

    async def ListPayments(self, request: ListPaymentsRequest, context: Context) -> ListPaymentsResponse:
        """Payments of a group, sorted by order id, which never changes."""
        group = request.parent.removeprefix("groups/")

        async def here() -> ListPaymentsResponse:
            return self._list(group, request)

        return await self._router.call_owner("ListPayments", group, request, context, here)

    def _list(self, group: str, request: ListPaymentsRequest) -> ListPaymentsResponse:
        size = PAGE_SIZE.of(request.page_size)
        paging = PageRequest(f"payments/{group}", (str,), size, request.page_token)
        aggregate = self._view.get(group)
        if aggregate is None:
            raise errors.group_not_found(group)
        payments = aggregate.state
        seen = ((order, payment) for order in payments.orders if (payment := payment_of(payments, order)) is not None)
        page = paging.page_of(seen, _by_order)
        return ListPaymentsResponse(
            payments=[
                payment_message(str(PaymentName(group, order)), payment, aggregate.version, aggregate.time_ms)
                for order, payment in page.items
            ],
            next_page_token=page.next_token,
        )

    async def RefundPayment(self, request: RefundPaymentRequest, context: Context) -> Refund:
        """Refunds captured money; answers with the decision."""

        async def here() -> Refund:
            return await self._refunds.refund(request, CallDeadline(context))

        group = parse_payment(request.name).group
        return await self._router.call_owner("RefundPayment", group, request, context, here)

    async def NotifyPayment(self, request: NotifyPaymentRequest, context: Context) -> NotifyPaymentResponse:
        """Appends a provider's notification; answers once it is in the log."""
        received = [(one.name, one.value) for one in request.headers]
        # Above 0, which stands for the publisher's own time-out.
        timeout_s = max(CallDeadline(context).left_s(PUBLISH_S), 0.001)
        ingested = await self._ingest.ingest(request.provider, received, request.body, timeout_s)
        if ingested is None:
            return NotifyPaymentResponse()
        position = ingested.position
        return NotifyPaymentResponse(
            payment=str(ingested.payment), partition=position.partition, offset=position.offset
        )

    async def GetBalances(self, request: GetBalancesRequest, context: Context) -> GetBalancesResponse:
        """Balances of the ledger."""
        return await self._ledger.balances(request, context)

    async def ListEntries(self, request: ListEntriesRequest, context: Context) -> ListEntriesResponse:
        """Entries of the ledger, in the order of the log."""
        return await self._ledger.entries(request, context)


def _by_order(one: tuple[str, PaymentView]) -> Key:
    return (one[0],)
