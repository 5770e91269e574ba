"""OrderService: appends the actions of shoppers as facts, and returns what the group decided.

Invalid requests are refused before a record is written. The group decider alone decides on seat and price. Requests are
not logged, because they contain the token of a payment method.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Any

import grpc
from groupbuy.groups.v1.decisions_pb2 import REFUSAL_REASON_CANCELLED
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_STATE_CANCELLED,
    ORDER_STATE_REFUSED,
    BatchPlaceOrdersRequest,
    BatchPlaceOrdersResponse,
    CancelOrderRequest,
    GetOrderRequest,
    ListOrdersRequest,
    ListOrdersResponse,
    Order,
    PlaceOrderRequest,
    PlaceOrderResponse,
    PlaceOrdersRequest,
    PlaceOrdersResponse,
    WatchOrderRequest,
)
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceServicer

from chassis.routing.partition_router import LocalRouter
from chassis.rpc.streaming.broadcast import Fanout
from chassis.rpc.streaming.call_deadline import CallDeadline
from chassis.rpc.trace_context import TraceStarter
from chassis.rpc.validation import invalid_field
from chassis.telemetry.event_log import EventLog
from eventlog.runtime.wall_clock import wall_clock_ms
from services.orders.api import errors as refusals
from services.orders.api.finding import OrderFinder
from services.orders.api.listing import ANY_GROUP, Listing
from services.orders.api.placing.batch_place_orders import BatchPlaceOrders
from services.orders.api.placing.event_publisher import OrderEventPublisher
from services.orders.api.placing.invitations import Invitations
from services.orders.api.placing.payment_methods import PaymentMethods
from services.orders.api.placing.place_order import PlaceOrderHandler
from services.orders.api.placing.sold_out import SoldOutCheck
from services.orders.api.ports import OrdersView, PublishesAll
from services.orders.api.reading import OrderSnapshot, Reader
from services.orders.domain.ids import OrderName, parse_order_name
from services.orders.domain.model import OrderView
from services.orders.domain.seat import REFUSALS
from shared_kernel.campaign_table import FindsCampaigns
from shared_kernel.offer_table import FindsOffers
from shared_kernel.payment_providers import CAPABILITIES
from shared_kernel.share_links.share_link_token import Keys

Context = grpc.aio.ServicerContext[Any, Any]


class OrderServicer(OrderServiceServicer):
    """The service `groupbuy.orders.v1.OrderService`."""

    def __init__(
        self,
        view: OrdersView,
        campaigns: FindsCampaigns,
        publisher: PublishesAll,
        now_ms: Callable[[], int] = wall_clock_ms,
        link_keys: Keys | None = None,
        replicas: LocalRouter | None = None,
        trace_starter: TraceStarter | None = None,
        event_log: EventLog | None = None,
        providers: Iterable[str] = tuple(CAPABILITIES),
        offers: FindsOffers | None = None,
    ) -> None:
        """`providers` are the names of the installation's payment providers, `offers` those of its stock items."""
        self._replicas = replicas or LocalRouter()
        self._campaigns = campaigns
        self._reader = Reader(view, publisher)
        self._event_publisher = OrderEventPublisher(publisher, now_ms, trace_starter)
        self._place_order = PlaceOrderHandler(
            self._reader,
            campaigns,
            self._event_publisher,
            Invitations(link_keys or Keys({}), now_ms),
            PaymentMethods(providers),
            SoldOutCheck(offers),
            now_ms,
            event_log,
        )
        self._batch = BatchPlaceOrders(self._place_order, self._event_publisher, self._replicas)
        self._listing = Listing(self._reader, self._replicas)
        self._finder = OrderFinder(self._reader, self._replicas)
        self._fanout = Fanout(view.notifier)

    async def PlaceOrder(self, request: PlaceOrderRequest, context: Context) -> PlaceOrderResponse:
        """Places an order and waits as requested. A retry returns the same order."""
        return await self._place_order.handle(request, self._replicas, context)

    async def BatchPlaceOrders(self, request: BatchPlaceOrdersRequest, context: Context) -> BatchPlaceOrdersResponse:
        """Places several orders together. Each succeeds or fails on its own."""
        return await self._batch.batch(request.requests, context)

    async def PlaceOrders(
        self, requests: AsyncIterator[PlaceOrdersRequest], context: Context
    ) -> AsyncIterator[PlaceOrdersResponse]:
        """Places the orders of a stream and sends each result as it becomes known."""
        async with aclosing(self._batch.stream(requests, context)) as found:
            async for answers in found:
                yield answers

    async def GetOrder(self, request: GetOrderRequest, context: Context) -> Order:
        """Reads an order, also by its id alone. With a consistency token it waits until the token's state is folded."""
        name = _parsed(request.name)
        if name.group == ANY_GROUP:
            return await self._finder.find(name.order, request, context)

        async def here() -> Order:
            deadline = CallDeadline(context)
            await self._wait_for_token(name, request.consistency_token, deadline)
            return (await self._reader.require(name, deadline)).message()

        return await self._replicas.call_owner("GetOrder", name.group, request, context, here)

    async def _wait_for_token(self, name: OrderName, token: str, deadline: CallDeadline) -> None:
        if token:
            await self._reader.wait_for_token(name, self._reader.parse_token(token, name.group), deadline)

    async def ListOrders(self, request: ListOrdersRequest, context: Context) -> ListOrdersResponse:
        """Lists the orders of a group or of a customer. With a consistency token it waits as GetOrder does."""
        return await self._listing.page(request, context)

    async def CancelOrder(self, request: CancelOrderRequest, context: Context) -> Order:
        """Cancels an order and returns the decision."""
        name = _parsed(request.name)

        async def here() -> Order:
            return await self._cancel(name, request, CallDeadline(context))

        return await self._replicas.call_owner("CancelOrder", name.group, request, context, here)

    async def _cancel(self, name: OrderName, request: CancelOrderRequest, deadline: CallDeadline) -> Order:
        snapshot = await self._reader.require(name, deadline)
        if not _cancel_decided(snapshot.view):
            record = self._event_publisher.cancel_requested(name, snapshot.view.customer, request)
            self._reader.mark_written(await self._event_publisher.append(record, deadline))
            snapshot = await self._reader.wait_until(name, lambda found: _cancel_decided(found.view), deadline)
        if not _is_cancelled(snapshot.view):
            raise refusals.not_cancellable(name, snapshot.view)
        return snapshot.message()

    async def WatchOrder(self, request: WatchOrderRequest, context: Context) -> AsyncIterator[Order]:
        """Streams the order, then each change; changes in quick succession are sent as one. Ends with a final state."""
        group = _parsed(request.name).group

        def here(resumed: WatchOrderRequest) -> AsyncGenerator[Order]:
            return self._watch(resumed, CallDeadline(context))

        async with aclosing(self._replicas.watch("WatchOrder", group, request, context, here, _after)) as orders:
            async for order in orders:
                yield order

    async def _watch(self, request: WatchOrderRequest, deadline: CallDeadline) -> AsyncGenerator[Order]:
        name = _parsed(request.name)
        sent = request.from_revision
        await self._wait_for_token(name, request.consistency_token, deadline)
        snapshot: OrderSnapshot | None = await self._reader.require(name, deadline)
        with self._fanout.follow(name.group) as watch:
            while True:
                snapshot = self._reader.find(name)
                if snapshot is None:
                    raise refusals.order_not_found(name)
                # Read before the yield: the view can change while the message is sent.
                final = snapshot.view.final
                if snapshot.view.revision > sent:
                    sent = snapshot.view.revision
                    yield snapshot.message()
                if final:
                    return
                await watch.changed()


def _parsed(name: str) -> OrderName:
    try:
        return parse_order_name(name)
    except ValueError as error:
        raise invalid_field("name", str(error)) from None


def _after(request: WatchOrderRequest, sent: Order) -> WatchOrderRequest:
    """The request that continues after the last message sent. The next owner may not have folded the token's state."""
    return WatchOrderRequest(
        name=request.name, from_revision=sent.revision, consistency_token=request.consistency_token
    )


def _is_cancelled(order: OrderView) -> bool:
    """Whether the order was cancelled by its shopper, also by a request that came before the order."""
    return order.seat_state == ORDER_STATE_CANCELLED or (
        order.seat_state == ORDER_STATE_REFUSED and order.seat_reason == REFUSALS[REFUSAL_REASON_CANCELLED]
    )


def _cancel_decided(order: OrderView) -> bool:
    return order.final or bool(order.cancel_refused)
