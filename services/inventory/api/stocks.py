"""StockService: reads stock items and allowances from the deciders' views, and edits stock items through their inbox.

The owner of a key's partition answers calls for it (chassis.routing.partition_router). An edit is a command in the
inbox, and the answer is the decision: the decider alone knows what is out at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid5

import grpc
from groupbuy.inventory.v1 import stocks_pb2 as pb
from groupbuy.inventory.v1.inbox_pb2 import (
    ArchiveStockCommand,
    CreateStockCommand,
    StockInput,
    UpdateStockCommand,
)
from groupbuy.inventory.v1.stocks_pb2_grpc import StockServiceServicer

from chassis.routing.partition_router import LocalRouter, Partitions
from chassis.rpc.field_mask import edited_fields
from chassis.rpc.pagination import PageRequest, PageSize
from chassis.rpc.streaming.broadcast import Fanout, SharedMessage
from chassis.rpc.streaming.call_deadline import CallDeadline, wait_until
from chassis.rpc.validation import invalid_field
from eventlog.core.aggregate import Aggregate
from eventlog.producing.publisher import RecordPublisher
from eventlog.producing.record_accumulator import Record
from eventlog.records.envelope import headers
from eventlog.runtime.wall_clock import wall_clock_ms
from services.inventory.api import errors as refusals
from services.inventory.api.mapping import etag, leases, revision_of, stock_message
from services.inventory.api.ports import AllowancesView, StocksView
from services.inventory.domain.stock.model import DEFAULT_LEASE_DIVISOR, StockItem
from shared_kernel.topics import STOCK_INBOX

Context = grpc.aio.ServicerContext[Any, Any]

SOURCE = "/groupbuy/inventory"
#: Namespace of ids derived from request ids. With another namespace a retry would create a second stock item.
NAMESPACE = UUID("6d1f6a3c-8f0f-5a0e-9f0b-6a9b2f7f7c11")
#: Seconds for the broker's acknowledgement, if the caller's deadline allows.
PUBLISH_S = 10.0
STOCKS = PageSize(default=50, limit=500)
LEASES = PageSize(default=100, limit=1_000)
#: Seconds between two messages of a watch: a stock item changes thousands of times a second.
WATCH_INTERVAL_S = 0.1
EDITABLE = ("display_name", "total", "lease_divisor")


class StockServicer(StockServiceServicer):
    """The service `groupbuy.inventory.v1.StockService`."""

    def __init__(
        self,
        stocks: StocksView,
        allowances: AllowancesView,
        publisher: RecordPublisher,
        now_ms: Callable[[], int] = wall_clock_ms,
        *,
        replicas: LocalRouter | None = None,
        allowance_replicas: LocalRouter | None = None,
    ) -> None:
        self._stocks = stocks
        self._allowances = allowances
        self._publisher = publisher
        self._now_ms = now_ms
        self._replicas = replicas or LocalRouter()
        self._allowance_replicas = allowance_replicas or LocalRouter()
        self._fanout = Fanout(stocks.notifier)

    # Edits ------------------------------------------------------------------------------------------------------

    async def CreateStock(self, request: pb.CreateStockRequest, context: Context) -> pb.Stock:
        """Creates a stock item. A retry returns the stored one."""
        key = request.stock_id or str(uuid5(NAMESPACE, request.request_id))
        wanted = request.stock
        command = CreateStockCommand(
            request_id=request.request_id,
            display_name=wanted.display_name,
            total=wanted.total,
            lease_divisor=wanted.lease_divisor or DEFAULT_LEASE_DIVISOR,
        )

        async def here() -> pb.Stock:
            known = self._stocks.get(key)
            if known is None or not known.state.revision:
                known = await self._decided(key, StockInput(create=command), request.request_id, CallDeadline(context))
            state = known.state
            stored = (state.display_name, state.total, state.lease_divisor)
            if state.commands.get(request.request_id) != 0 and stored != (
                command.display_name,
                command.total,
                command.lease_divisor,
            ):
                raise refusals.stock_exists(key)
            return stock_message(known)

        return await self._replicas.call_owner("CreateStock", key, request, context, here)

    async def UpdateStock(self, request: pb.UpdateStockRequest, context: Context) -> pb.Stock:
        """Edits a stock item. A request without an etag overwrites other edits."""
        key = request.stock.name.removeprefix("stocks/")
        if not request.stock.name.startswith("stocks/") or not key or "/" in key:
            raise invalid_field("stock.name", "is not the name of a stock item")
        command = UpdateStockCommand(request_id=request.request_id, expected_revision=revision_of(request.stock.etag))
        for field in edited_fields(request.update_mask, request.stock, EDITABLE):
            setattr(command, field, getattr(request.stock, field))
        return await self._edit("UpdateStock", key, request, StockInput(update=command), context)

    async def ArchiveStock(self, request: pb.ArchiveStockRequest, context: Context) -> pb.Stock:
        """Archives a stock item: no more leases. Idempotent."""
        command = ArchiveStockCommand(request_id=request.request_id, expected_revision=revision_of(request.etag))
        key = request.name.removeprefix("stocks/")
        return await self._edit("ArchiveStock", key, request, StockInput(archive=command), context)

    async def _edit(self, method: str, key: str, request: Any, command: StockInput, context: Context) -> pb.Stock:
        async def here() -> pb.Stock:
            self._require(key)
            found = await self._decided(key, command, request.request_id, CallDeadline(context))
            refusal = found.state.commands.get(request.request_id, 0)
            if refusal:
                raise refusals.refused(key, refusal, etag(found.state))
            return stock_message(found)

        return await self._replicas.call_owner(method, key, request, context, here)

    async def _decided(
        self, key: str, command: StockInput, request_id: str, deadline: CallDeadline
    ) -> Aggregate[StockItem]:
        """Appends a command and waits for its decision, unless it was decided before."""
        kind = command.WhichOneof("body") or ""
        record_headers = headers(
            f"{key}:{kind}:{request_id}", StockInput.DESCRIPTOR.full_name, SOURCE, self._now_ms(), f"stocks/{key}"
        )

        def look() -> Aggregate[StockItem] | None:
            found = self._stocks.get(key)
            return found if found is not None and request_id in found.state.commands else None

        known = look()
        if known is not None:
            return known
        record = Record(key, command.SerializeToString(), record_headers)
        await self._publisher.publish(STOCK_INBOX.name, record, timeout_s=deadline.left_s(PUBLISH_S))
        try:
            return await wait_until(self._stocks.notifier, key, look, deadline.left_s())
        except TimeoutError:
            raise refusals.answer_pending(key) from None

    # Reads ------------------------------------------------------------------------------------------------------

    async def GetStock(self, request: pb.GetStockRequest, context: Context) -> pb.Stock:
        """Reads a stock item."""
        key = request.name.removeprefix("stocks/")

        async def here() -> pb.Stock:
            return stock_message(self._require(key))

        return await self._replicas.call_owner("GetStock", key, request, context, here)

    async def ListStocks(self, request: pb.ListStocksRequest, context: Context) -> pb.ListStocksResponse:
        """Lists stock items by name."""
        size = STOCKS.of(request.page_size)
        paging = PageRequest(f"stocks/{request.show_archived}", (str,), size, request.page_token)

        async def here(partitions: Partitions) -> pb.ListStocksResponse:
            items = [one for one in self._stocks.items(partitions) if request.show_archived or not one.state.archived]
            page = paging.page_of(items, lambda one: (f"stocks/{one.key}",))
            shown = [stock_message(one) for one in page.items]
            return pb.ListStocksResponse(stocks=shown, next_page_token=page.next_token)

        parts = await self._replicas.scatter_gather("ListStocks", request, context, here)
        if len(parts) == 1:
            return parts[0]
        more = any(part.next_page_token for part in parts)
        page = paging.merge((one for part in parts for one in part.stocks), lambda one: (one.name,), more=more)
        return pb.ListStocksResponse(stocks=page.items, next_page_token=page.next_token)

    async def ListLeases(self, request: pb.ListLeasesRequest, context: Context) -> pb.ListLeasesResponse:
        """Lists the groups that have pieces or wait in line."""
        key = request.name.removeprefix("stocks/")
        paging = PageRequest(f"leases/{key}", (str,), LEASES.of(request.page_size), request.page_token)

        async def here() -> pb.ListLeasesResponse:
            page = paging.page_of(leases(self._require(key).state), lambda one: (one.group,))
            return pb.ListLeasesResponse(leases=page.items, next_page_token=page.next_token)

        return await self._replicas.call_owner("ListLeases", key, request, context, here)

    async def GetAllowance(self, request: pb.GetAllowanceRequest, context: Context) -> pb.Allowance:
        """Reads the allowance of a customer. A customer without orders has an empty one."""
        key = f"{request.campaign.removeprefix('campaigns/')}/{request.customer}"

        async def here() -> pb.Allowance:
            found = self._allowances.get(key)
            made = pb.Allowance(campaign=request.campaign, customer=request.customer)
            if found is not None:
                made.pieces = found.state.pieces
                made.orders.extend(sorted(found.state.admitted))
                made.version = found.version
            return made

        return await self._allowance_replicas.call_owner("GetAllowance", key, request, context, here)

    async def WatchStock(  # type: ignore[override] # the request pipeline sends the message of a SharedMessage
        self, request: pb.WatchStockRequest, context: Context
    ) -> AsyncIterator[SharedMessage[pb.Stock]]:
        """Streams the stock item, then its changes, at most one message in WATCH_INTERVAL_S."""
        key = request.name.removeprefix("stocks/")
        async with aclosing(self._replicas.watch("WatchStock", key, request, context, self._watch, _after)) as found:
            async for message in found:
                yield message if isinstance(message, SharedMessage) else SharedMessage(message)

    async def _watch(self, request: pb.WatchStockRequest) -> AsyncGenerator[SharedMessage[pb.Stock]]:
        key = request.name.removeprefix("stocks/")
        sent = request.from_version
        with self._fanout.follow(key) as watch:
            while True:
                aggregate = self._require(key)
                if aggregate.version > sent:
                    sent = aggregate.version
                    yield SharedMessage(stock_message(aggregate))
                    await asyncio.sleep(WATCH_INTERVAL_S)
                await watch.changed()

    def _require(self, key: str) -> Aggregate[StockItem]:
        """A created stock item. Raises ApiError STOCK_NOT_FOUND, and NotReady."""
        aggregate = self._stocks.get(key)
        if aggregate is None or not aggregate.state.revision:
            raise refusals.stock_not_found(key)
        return aggregate


def _after(request: pb.WatchStockRequest, sent: SharedMessage[pb.Stock] | pb.Stock) -> pb.WatchStockRequest:
    """The request that continues after the last message sent."""
    stock = sent.message if isinstance(sent, SharedMessage) else sent
    return pb.WatchStockRequest(name=request.name, from_version=stock.version)
