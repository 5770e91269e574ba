"""PaymentService: shows payments as their decider has them, and passes on what refunds them or what a provider says.

Must never move money by itself, nor show a payment method.
"""

from __future__ import annotations

import time
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
from chassis.rpc.call_deadline import CallDeadline
from chassis.rpc.pagination import Key, Paging, page_size
from eventlog.producing.publisher import Publishes
from services.payments.api import errors as refusals
from services.payments.api.ledger import Books
from services.payments.api.mapping import payment_message
from services.payments.api.names import PaymentName, parse_payment
from services.payments.api.ports import BooksView, PursesView
from services.payments.api.refund_payment import PUBLISH_S, RefundHandler
from services.payments.api.webhook_ingest import WebhookIngest
from services.payments.domain.view import PaymentView, payment_of

__all__ = ["Context", "PaymentServicer", "payment_message", "wall_clock_ms"]

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_SIZE = 50
MAX = 500


def wall_clock_ms() -> int:
    """Milliseconds since the epoch, for what people read."""
    return time.time_ns() // 1_000_000


class PaymentServicer(PaymentServiceServicer):
    """The service `groupbuy.payments.v1.PaymentService`."""

    def __init__(
        self,
        view: PursesView,
        publisher: Publishes,
        notifying: WebhookIngest,
        books: BooksView,
        now_ms: Callable[[], int] = wall_clock_ms,
        replicas: LocalRouter | None = None,
        of_books: LocalRouter | None = None,
    ) -> None:
        """`replicas` are those of the decider's table, `of_books` those of the ledger."""
        self._replicas = replicas or LocalRouter()
        self._view = view
        self._refunding = RefundHandler(view, publisher, now_ms)
        self._notifying = notifying
        self._books = Books(books, of_books or LocalRouter())

    async def GetPayment(self, request: GetPaymentRequest, context: Context) -> Payment:
        """The payment of one order."""
        group, order = parse_payment(request.name)

        async def here() -> Payment:
            aggregate = self._view.get(group)
            found = None if aggregate is None else payment_of(aggregate.state, order)
            if aggregate is None or found is None:
                raise refusals.payment_not_found(request.name)
            return payment_message(request.name, found, aggregate.version, aggregate.time_ms)

        return await self._replicas.ask("GetPayment", group, request, context, here)

    async def ListPayments(self, request: ListPaymentsRequest, context: Context) -> ListPaymentsResponse:
        """Payments of a group, by what never changes about them: the ids of their orders."""
        group = request.parent.removeprefix("groups/")

        async def here() -> ListPaymentsResponse:
            return self._list(group, request)

        return await self._replicas.ask("ListPayments", group, request, context, here)

    def _list(self, group: str, request: ListPaymentsRequest) -> ListPaymentsResponse:
        size = page_size(request.page_size, default=DEFAULT_SIZE, most=MAX)
        paging = Paging(f"payments/{group}", (str,), size, request.page_token)
        aggregate = self._view.get(group)
        if aggregate is None:
            raise refusals.group_not_found(group)
        purse = aggregate.state
        seen = ((order, payment) for order in purse.orders if (payment := payment_of(purse, order)) is not None)
        page = paging.of(seen, _by_order)
        return ListPaymentsResponse(
            payments=[
                payment_message(str(PaymentName(group, order)), payment, aggregate.version, aggregate.time_ms)
                for order, payment in page.items
            ],
            next_page_token=page.next_token,
        )

    async def RefundPayment(self, request: RefundPaymentRequest, context: Context) -> Refund:
        """Gives captured money back, and answers with what was decided."""

        async def here() -> Refund:
            return await self._refunding.refund(request, CallDeadline(context))

        group = parse_payment(request.name).group
        return await self._replicas.ask("RefundPayment", group, request, context, here)

    async def NotifyPayment(self, request: NotifyPaymentRequest, context: Context) -> NotifyPaymentResponse:
        """Takes what a provider sent; answers once it is in the log."""
        found = [(one.name, one.value) for one in request.headers]
        # Never 0, which would mean the publisher's own time-out.
        timeout_s = max(CallDeadline(context).left_s(PUBLISH_S), 0.001)
        noted = await self._notifying.take(request.provider, found, request.body, timeout_s)
        if noted is None:
            return NotifyPaymentResponse()
        position = noted.position
        return NotifyPaymentResponse(payment=str(noted.payment), partition=position.partition, offset=position.offset)

    async def GetBalances(self, request: GetBalancesRequest, context: Context) -> GetBalancesResponse:
        """Balances of the ledger."""
        return await self._books.balances(request, context)

    async def ListEntries(self, request: ListEntriesRequest, context: Context) -> ListEntriesResponse:
        """Entries of the ledger, in the order of the log."""
        return await self._books.entries(request, context)


def _by_order(one: tuple[str, PaymentView]) -> Key:
    return (one[0],)
