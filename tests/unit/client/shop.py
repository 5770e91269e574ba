"""Services with scripted answers for the client, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from groupbuy.errors.v1 import errors_pb2
from groupbuy.groups.v1 import groups_pb2, groups_pb2_grpc
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc

from chassis.identity.authorizer import Authorizer
from chassis.rpc.errors import ApiError
from chassis.rpc.server import Server, Servicer

GROUP = "groups/6f1c0a1e-0d5d-4f4e-9a57-0a3a1f0a8d10"
NAME = f"{GROUP}/orders/6f1c0a1e-0d5d-4f4e-9a57-0a3a1f0a8d11"
LINE: dict[str, Any] = {
    "customer": "ann",
    "campaign": "campaigns/mug",
    "currency": "CNY",
    "max_unit_price_minor": 8900,
    "payment_method": "card_ok",
}


def unavailable() -> ApiError:
    return ApiError(grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_NOT_READY, "not yet", retry_after_ms=1)


def overloaded() -> ApiError:
    return ApiError(grpc.StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_OVERLOADED, "full", retry_after_ms=1)


def dropped() -> ApiError:
    """gRPC drops a call in a flood without a reason and without a delay."""
    return ApiError(grpc.StatusCode.CANCELLED, errors_pb2.ERROR_REASON_UNSPECIFIED, "")


class Fake(orders_pb2_grpc.OrderServiceServicer, groups_pb2_grpc.GroupServiceServicer):
    """Records its requests. Raises `fails` first, one for each call."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.fails: list[ApiError] = []
        #: Revision of a watched order -> error after that message.
        self.breaks_after: dict[int, ApiError] = {}

    def _take(self, request: Any) -> None:
        self.seen.append(request)
        if self.fails:
            raise self.fails.pop(0)

    async def PlaceOrder(self, request: Any, context: Any) -> orders_pb2.PlaceOrderResponse:
        self._take(request)
        return orders_pb2.PlaceOrderResponse(order=orders_pb2.Order(name=NAME, group=GROUP), consistency_token="1:2")

    async def BatchPlaceOrders(self, request: Any, context: Any) -> orders_pb2.BatchPlaceOrdersResponse:
        self._take(request)
        results = [orders_pb2.PlaceOrderResult(index=index, name=NAME) for index in range(len(request.requests))]
        return orders_pb2.BatchPlaceOrdersResponse(results=results)

    async def ListOrders(self, request: Any, context: Any) -> orders_pb2.ListOrdersResponse:
        self._take(request)
        page = int(request.page_token or 0)
        orders = [orders_pb2.Order(revision=2 * page + number) for number in range(2)]
        return orders_pb2.ListOrdersResponse(orders=orders, next_page_token="" if page == 2 else str(page + 1))

    async def WatchOrder(self, request: Any, context: Any) -> AsyncIterator[orders_pb2.Order]:
        self._take(request)
        for revision in range(request.from_revision + 1, 5):
            yield orders_pb2.Order(name=NAME, revision=revision)
            if revision in self.breaks_after:
                raise self.breaks_after.pop(revision)

    async def GetGroup(self, request: Any, context: Any) -> groups_pb2.Group:
        self._take(request)
        return groups_pb2.Group(name=request.name)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Fake, str]]:
    """A server on a free port, and its address."""
    fake = Fake()  # type: ignore[abstract] # methods that no test calls
    adds: list[tuple[Callable[[Any, Any], None], str]] = [
        (orders_pb2_grpc.add_OrderServiceServicer_to_server, "groupbuy.orders.v1.OrderService"),
        (groups_pb2_grpc.add_GroupServiceServicer_to_server, "groupbuy.groups.v1.GroupService"),
    ]
    servicers = [Servicer(add, fake, name) for add, name in adds]
    server = Server(servicers, max_calls=100, max_streams=100, authorizer=Authorizer(None), files=None)
    port = server.bind("127.0.0.1:0")
    await server.start()
    try:
        yield fake, f"127.0.0.1:{port}"
    finally:
        await server.drain(1)
