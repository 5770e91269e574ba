"""A small orders service for tests of the chassis. Each test sets its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc

ORDERS = "groupbuy.orders.v1.OrderService"


async def _at_once() -> None:
    return


class FakeOrders(orders_pb2_grpc.OrderServiceServicer):
    """Answers as set by the test, and records the requests."""

    def __init__(self) -> None:
        self.seen: list[Message] = []
        self.place: Callable[[], Awaitable[None]] = _at_once
        #: Set while a call or stream is inside the servicer.
        self.inside = asyncio.Event()
        self.release = asyncio.Event()
        self.ended = asyncio.Event()

    async def hang(self) -> None:
        """Waits inside the servicer until it is released."""
        self.inside.set()
        await self.release.wait()

    async def PlaceOrder(self, request: Any, context: Any) -> orders_pb2.PlaceOrderResponse:
        self.seen.append(request)
        await self.place()
        return orders_pb2.PlaceOrderResponse(consistency_token="1:2")

    async def BatchPlaceOrders(self, request: Any, context: Any) -> orders_pb2.BatchPlaceOrdersResponse:
        self.seen.append(request)
        return orders_pb2.BatchPlaceOrdersResponse()

    async def PlaceOrders(self, requests: Any, context: Any) -> AsyncIterator[orders_pb2.PlaceOrdersResponse]:
        async for request in requests:
            self.seen.append(request)
            yield orders_pb2.PlaceOrdersResponse(
                results=[orders_pb2.PlaceOrderResult(index=index) for index in range(len(request.requests))]
            )

    async def ListOrders(self, request: Any, context: Any) -> orders_pb2.ListOrdersResponse:
        name = "n" * 1_000
        return orders_pb2.ListOrdersResponse(orders=[orders_pb2.Order(name=name)] * (request.page_size or 1))

    async def GetOrder(self, request: Any, context: Any) -> orders_pb2.Order:
        return orders_pb2.Order(name=request.name)

    async def CancelOrder(self, request: Any, context: Any) -> orders_pb2.Order:
        await context.abort(grpc.StatusCode.ABORTED, "by its own hand")
        raise AssertionError("abort returned")

    async def WatchOrder(self, request: Any, context: Any) -> AsyncIterator[orders_pb2.Order]:
        self.seen.append(request)
        try:
            yield orders_pb2.Order(name=request.name, revision=1)
            await self.place()
            self.inside.set()
            await self.release.wait()
            yield orders_pb2.Order(name=request.name, revision=2)
        finally:
            self.ended.set()
