"""OrderService: states what shoppers did as facts, and answers with what was decided about them.

Plain mistakes are refused here, before anything is written; whether there is a seat, and at what price, is for the
group's decider alone. Must never log a request: it holds the token of a payment method.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
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
from chassis.rpc.broadcast import Fanout
from chassis.rpc.call_deadline import CallDeadline
from services.orders.api import errors as refusals
from services.orders.api.batch_place_orders import BatchPlaceOrders
from services.orders.api.event_publisher import OrderEventPublisher
from services.orders.api.links import Invitations
from services.orders.api.listing import Listing
from services.orders.api.place_order import PlaceOrderHandler
from services.orders.api.ports import Campaigns, OrdersView, PublishesAll
from services.orders.api.reading import OrderSnapshot, Reader
from services.orders.domain.fold import OrderView
from services.orders.domain.ids import OrderName, parse_order
from services.orders.domain.seat import REFUSALS
from shared_kernel.share_links import Keys

Context = grpc.aio.ServicerContext[Any, Any]


def wall_clock_ms() -> int:
    """Milliseconds since the epoch, for headers that people read."""
    return time.time_ns() // 1_000_000


class OrderServicer(OrderServiceServicer):
    """The service `groupbuy.orders.v1.OrderService`."""

    def __init__(
        self,
        view: OrdersView,
        campaigns: Campaigns,
        publisher: PublishesAll,
        now_ms: Callable[[], int] = wall_clock_ms,
        link_keys: Keys | None = None,
        replicas: LocalRouter | None = None,
    ) -> None:
        self._replicas = replicas or LocalRouter()
        self._campaigns = campaigns
        self._reader = Reader(view, publisher)
        self._facts = OrderEventPublisher(publisher, now_ms)
        self._placing = PlaceOrderHandler(
            self._reader, campaigns, self._facts, Invitations(link_keys or Keys({}), now_ms)
        )
        self._bulk = BatchPlaceOrders(self._placing, self._facts, self._replicas)
        self._listing = Listing(self._reader, self._replicas)
        self._fanout = Fanout(view.watchers)

    async def PlaceOrder(self, request: PlaceOrderRequest, context: Context) -> PlaceOrderResponse:
        """Places an order and waits as asked. The same request again answers with the same order."""
        return await self._placing.place_there(request, self._replicas, context)

    async def BatchPlaceOrders(self, request: BatchPlaceOrdersRequest, context: Context) -> BatchPlaceOrdersResponse:
        """Places several orders together; each succeeds or fails by itself."""
        return await self._bulk.batch(request.requests, context)

    async def PlaceOrders(
        self, requests: AsyncIterator[PlaceOrdersRequest], context: Context
    ) -> AsyncIterator[PlaceOrdersResponse]:
        """Places orders as they come, and answers each as soon as it can."""
        async with aclosing(self._bulk.stream(requests, context)) as found:
            async for answers in found:
                yield answers

    async def GetOrder(self, request: GetOrderRequest, context: Context) -> Order:
        """An order as it is; with a token, not before what the token stands for is seen."""
        name = _parsed(request.name)

        async def here() -> Order:
            deadline = CallDeadline(context)
            if request.consistency_token:
                await self._reader.passed(name, self._reader.consistency_token(request.consistency_token, name.group), deadline)
            return (await self._reader.require(name, deadline)).message()

        return await self._replicas.call_owner("GetOrder", name.group, request, context, here)

    async def ListOrders(self, request: ListOrdersRequest, context: Context) -> ListOrdersResponse:
        """A page of a group's orders, or of a customer's; with a token, not before what it stands for is seen."""
        return await self._listing.page(request, context)

    async def CancelOrder(self, request: CancelOrderRequest, context: Context) -> Order:
        """Asks to leave the group, and answers with the decider's verdict."""
        name = _parsed(request.name)

        async def here() -> Order:
            return await self._cancel(name, request, CallDeadline(context))

        return await self._replicas.call_owner("CancelOrder", name.group, request, context, here)

    async def _cancel(self, name: OrderName, request: CancelOrderRequest, deadline: CallDeadline) -> Order:
        seen = await self._reader.require(name, deadline)
        if not _judged(seen.view):
            wish = self._facts.cancel_requested(name, seen.view.customer, request)
            self._reader.wrote(await self._facts.append(wish, deadline))
            seen = await self._reader.when(name, _judged, deadline)
        if not _left(seen.view):
            raise refusals.not_cancellable(name, seen.view)
        return seen.message()

    async def WatchOrder(self, request: WatchOrderRequest, context: Context) -> AsyncIterator[Order]:
        """The order, then its changes; several at once are sent as one. Ends with a final state."""
        group = _parsed(request.name).group

        def here(asked: WatchOrderRequest) -> AsyncGenerator[Order]:
            return self._watch(asked, CallDeadline(context))

        async with aclosing(self._replicas.watch("WatchOrder", group, request, context, here, _after)) as found:
            async for one in found:
                yield one

    async def _watch(self, request: WatchOrderRequest, deadline: CallDeadline) -> AsyncGenerator[Order]:
        name = _parsed(request.name)
        sent = request.from_revision
        seen: OrderSnapshot | None = await self._reader.require(name, deadline)
        with self._fanout.follow(name.group) as watch:
            while True:
                seen = self._reader.find(name)
                if seen is None:
                    raise refusals.order_not_found(name)
                # Taken now: while an answer is on its way, the view moves on.
                final = seen.view.final
                if seen.view.revision > sent:
                    sent = seen.view.revision
                    yield seen.message()
                if final:
                    return
                await watch.changed()


def _parsed(name: str) -> OrderName:
    try:
        return parse_order(name)
    except ValueError as error:
        raise refusals.invalid_field("name", str(error)) from None


def _after(request: WatchOrderRequest, sent: Order) -> WatchOrderRequest:
    """The request to go on after what was sent."""
    return WatchOrderRequest(name=request.name, from_revision=sent.revision)


def _left(order: OrderView) -> bool:
    """Whether the shopper is out by their own wish: also one whose wish overtook the order."""
    return order.seat == ORDER_STATE_CANCELLED or (
        order.seat == ORDER_STATE_REFUSED and order.seat_reason == REFUSALS[REFUSAL_REASON_CANCELLED]
    )


def _judged(order: OrderView) -> bool:
    return order.final or bool(order.cancel_refused)
