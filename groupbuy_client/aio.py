"""The client for programs on an event loop. Use a client only on the loop that first used it.

Each call has a deadline, is retried if that is safe, and raises a GroupbuyError if it fails.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
from groupbuy.groups.v1 import (
    campaigns_pb2,
    campaigns_pb2_grpc,
    groups_pb2,
    groups_pb2_grpc,
    links_pb2,
    links_pb2_grpc,
)
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc
from groupbuy.payments.v1 import ledger_pb2, payments_pb2, payments_pb2_grpc

from groupbuy_client import requests
from groupbuy_client.errors import of_rpc
from groupbuy_client.transport import (
    OPTIONS,
    PATIENCE_S,
    TIMEOUT_S,
    TRUST_DOMAIN,
    CallRetries,
    Targets,
    WatchRetries,
    expecting,
)

_ORDERS = ("orders", orders_pb2_grpc.OrderServiceStub)
_GROUPS = ("groups", groups_pb2_grpc.GroupServiceStub)
_LINKS = ("groups", links_pb2_grpc.LinkServiceStub)
_CAMPAIGNS = ("groups", campaigns_pb2_grpc.CampaignServiceStub)
_PAYMENTS = ("payments", payments_pb2_grpc.PaymentServiceStub)

#: The process that serves it, and its generated stub.
_Service = tuple[str, Callable[[Any], Any]]


class AsyncClient:
    """Client of all services. Close it, or use it in `async with`."""

    def __init__(
        self,
        target: str = "",
        *,
        orders: str = "",
        groups: str = "",
        payments: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        trust_domain: str = TRUST_DOMAIN,
        timeout_s: float = TIMEOUT_S,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        """`target` is host:port of each service that has no target of its own.

        Without credentials nothing is encrypted; mtls makes credentials. With them, the server at each target must
        have the identity of the service in `trust_domain`. `timeout_s` limits each call that sets no other limit,
        retries included. `options` are gRPC channel options that replace or add to the client's own:
        `("grpc.enable_http_proxy", 1)` connects through the `http_proxy` of the environment.
        """
        self._targets = Targets(orders or target, groups or target, payments or target)
        self._credentials = credentials
        self._trust_domain = trust_domain
        self._timeout_s = timeout_s
        # gRPC takes the first value of an option.
        self._options = (*options, *OPTIONS)
        self._channels: dict[tuple[str, str], grpc.aio.Channel] = {}
        self._stubs: dict[_Service, Any] = {}
        # Any thread may use the synchronous client, which is generated from this one.
        self._lock = threading.Lock()

    async def close(self) -> None:
        """Cancels all calls and closes the channels."""
        for channel in self._channels.values():
            await channel.close(grace=None)
        self._channels.clear()
        self._stubs.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Orders ---------------------------------------------------------------------------------------------------------

    async def place_order(
        self, *, timeout_s: float | None = None, **order: Unpack[requests.PlaceOrder]
    ) -> orders_pb2.PlaceOrderResponse:
        """Places an order. A refused order is returned, not raised.

        Pass the consistency token of the response to get_order to read this write.
        """
        return await self._call(_ORDERS, "PlaceOrder", requests.place_order(order), timeout_s)

    async def place_orders(
        self,
        orders: Iterable[requests.PlaceOrder | orders_pb2.PlaceOrderRequest],
        *,
        timeout_s: float | None = None,
    ) -> list[orders_pb2.PlaceOrderResult]:
        """Places up to 500 orders in one call. Each succeeds or fails alone; errors.of_status converts its status."""
        response = await self._call(_ORDERS, "BatchPlaceOrders", requests.place_orders(orders), timeout_s)
        return list(response.results)

    async def get_order(
        self, name: str, *, consistency_token: str = "", timeout_s: float | None = None
    ) -> orders_pb2.Order:
        """Returns an order: groups/{group}/orders/{order}, or groups/-/orders/{order} if the group is not known.

        With the consistency token of a placed order, a group or a payment, waits until the order shows that state.
        """
        request = orders_pb2.GetOrderRequest(name=name, consistency_token=consistency_token)
        return await self._call(_ORDERS, "GetOrder", request, timeout_s)

    def list_orders(
        self, parent: str, *, customer: str = "", consistency_token: str = "", timeout_s: float | None = None
    ) -> AsyncIterator[orders_pb2.Order]:
        """Lists all orders of groups/{group}, or of a customer with parent groups/-. Fetches pages on demand."""
        request = orders_pb2.ListOrdersRequest(parent=parent, customer=customer, consistency_token=consistency_token)
        return self._all(_ORDERS, "ListOrders", request, "orders", timeout_s)

    async def cancel_order(
        self, name: str, *, reason: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> orders_pb2.Order:
        """Cancels an order; the customer leaves the group. Raises FailedPrecondition if the group has closed."""
        return await self._call(_ORDERS, "CancelOrder", requests.cancel_order(name, reason, request_id), timeout_s)

    def watch_order(
        self, name: str, *, from_revision: int = 0, consistency_token: str = "", patience_s: float = PATIENCE_S
    ) -> AsyncIterator[orders_pb2.Order]:
        """Yields the order, then each change, until its state is final. Resumes a lost connection without repeats.

        With a consistency token, begins with that state or a later one.
        """
        request = orders_pb2.WatchOrderRequest(
            name=name, from_revision=from_revision, consistency_token=consistency_token
        )
        return self._watch(_ORDERS, "WatchOrder", request, "from_revision", "revision", patience_s)

    # Groups and their links -----------------------------------------------------------------------------------------

    async def get_group(self, name: str, *, timeout_s: float | None = None) -> groups_pb2.Group:
        """Returns a group."""
        return await self._call(_GROUPS, "GetGroup", groups_pb2.GetGroupRequest(name=name), timeout_s)

    def list_groups(self, campaign: str, *, timeout_s: float | None = None) -> AsyncIterator[groups_pb2.Group]:
        """Lists a campaign's open groups, nearest to completion first."""
        request = groups_pb2.ListGroupsRequest(campaign=campaign)
        return self._all(_GROUPS, "ListGroups", request, "groups", timeout_s)

    async def cancel_group(
        self, name: str, *, reason: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> groups_pb2.Group:
        """Cancels a forming group and releases all members. Raises FailedPrecondition if the group has closed."""
        return await self._call(_GROUPS, "CancelGroup", requests.cancel_group(name, reason, request_id), timeout_s)

    def watch_group(
        self, name: str, *, from_version: int = 0, patience_s: float = PATIENCE_S
    ) -> AsyncIterator[groups_pb2.Group]:
        """Yields the group, then each change, until its state is final. Resumes a lost connection without repeats."""
        request = groups_pb2.WatchGroupRequest(name=name, from_version=from_version)
        return self._watch(_GROUPS, "WatchGroup", request, "from_version", "version", patience_s)

    async def create_share_link(
        self, *, timeout_s: float | None = None, **link: Unpack[requests.CreateShareLink]
    ) -> links_pb2.CreateShareLinkResponse:
        """Creates a share link to a group or a campaign."""
        return await self._call(_LINKS, "CreateShareLink", requests.create_share_link(link), timeout_s)

    async def resolve_share_link(
        self, token: str, *, timeout_s: float | None = None
    ) -> links_pb2.ResolveShareLinkResponse:
        """Returns the target of a share token. If its group has closed, the response names open groups instead."""
        request = links_pb2.ResolveShareLinkRequest(share_token=token)
        return await self._call(_LINKS, "ResolveShareLink", request, timeout_s)

    # Campaigns ------------------------------------------------------------------------------------------------------

    async def create_campaign(
        self, *, timeout_s: float | None = None, **campaign: Unpack[requests.CreateCampaign]
    ) -> campaigns_pb2.Campaign:
        """Creates a campaign."""
        return await self._call(_CAMPAIGNS, "CreateCampaign", requests.create_campaign(campaign), timeout_s)

    async def get_campaign(self, name: str, *, timeout_s: float | None = None) -> campaigns_pb2.Campaign:
        """Returns a campaign."""
        return await self._call(_CAMPAIGNS, "GetCampaign", campaigns_pb2.GetCampaignRequest(name=name), timeout_s)

    def list_campaigns(
        self, *, show_archived: bool = False, timeout_s: float | None = None
    ) -> AsyncIterator[campaigns_pb2.Campaign]:
        """Lists all campaigns by name."""
        request = campaigns_pb2.ListCampaignsRequest(show_archived=show_archived)
        return self._all(_CAMPAIGNS, "ListCampaigns", request, "campaigns", timeout_s)

    async def update_campaign(
        self, campaign: campaigns_pb2.Campaign, *, update_mask: Iterable[str] = (), timeout_s: float | None = None
    ) -> campaigns_pb2.Campaign:
        """Updates a campaign; open groups keep their terms. Raises Conflict if the campaign's etag is out of date."""
        request = requests.update_campaign(campaign, update_mask)
        return await self._call(_CAMPAIGNS, "UpdateCampaign", request, timeout_s)

    async def archive_campaign(
        self, name: str, *, etag: str = "", timeout_s: float | None = None
    ) -> campaigns_pb2.Campaign:
        """Archives a campaign: it opens no new groups."""
        request = campaigns_pb2.ArchiveCampaignRequest(name=name, etag=etag)
        return await self._call(_CAMPAIGNS, "ArchiveCampaign", request, timeout_s)

    # Payments -------------------------------------------------------------------------------------------------------

    async def get_payment(self, name: str, *, timeout_s: float | None = None) -> payments_pb2.Payment:
        """Returns the payment groups/{group}/orders/{order}/payment."""
        return await self._call(_PAYMENTS, "GetPayment", payments_pb2.GetPaymentRequest(name=name), timeout_s)

    def list_payments(self, parent: str, *, timeout_s: float | None = None) -> AsyncIterator[payments_pb2.Payment]:
        """Lists all payments of groups/{group}."""
        request = payments_pb2.ListPaymentsRequest(parent=parent)
        return self._all(_PAYMENTS, "ListPayments", request, "payments", timeout_s)

    async def refund_payment(
        self,
        name: str,
        *,
        amount_minor: int = 0,
        currency: str = "",
        reason: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> payments_pb2.Refund:
        """Refunds a captured payment. Without an amount, refunds all that is left of it."""
        request = requests.refund_payment(name, amount_minor, currency, reason, request_id)
        return await self._call(_PAYMENTS, "RefundPayment", request, timeout_s)

    async def get_balances(
        self, *, currency: str = "", timeout_s: float | None = None
    ) -> ledger_pb2.GetBalancesResponse:
        """Returns the balances of the ledger, of one currency or of all."""
        request = ledger_pb2.GetBalancesRequest(currency=currency)
        return await self._call(_PAYMENTS, "GetBalances", request, timeout_s)

    # Calls ----------------------------------------------------------------------------------------------------------

    async def _call(self, service: _Service, method: str, request: Any, timeout_s: float | None) -> Any:
        call = getattr(self._stub(service), method)
        retries = CallRetries(self._timeout_s if timeout_s is None else timeout_s)
        while True:
            try:
                return await call(request, timeout=retries.left_s)
            except grpc.RpcError as error:
                pause_s = retries.pause_after(of_rpc(error))
            await asyncio.sleep(pause_s)

    async def _all(
        self, service: _Service, method: str, request: Any, items: str, timeout_s: float | None
    ) -> AsyncIterator[Any]:
        while True:
            page = await self._call(service, method, request, timeout_s)
            for item in getattr(page, items):
                yield item
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def _watch(
        self, service: _Service, method: str, request: Any, resume_field: str, number_field: str, patience_s: float
    ) -> AsyncIterator[Any]:
        retries = WatchRetries(patience_s)
        while True:
            stream = getattr(self._stub(service), method)(request)
            try:
                async for message in stream:
                    retries.received()
                    setattr(request, resume_field, getattr(message, number_field))
                    yield message
            except grpc.RpcError as error:
                pause_s = retries.pause_after(of_rpc(error))
            else:
                return
            finally:
                # The caller may have stopped reading.
                stream.cancel()
            await asyncio.sleep(pause_s)

    def _stub(self, service: _Service) -> Any:
        with self._lock:
            if service not in self._stubs:
                name, make = service
                self._stubs[service] = make(self._channel(name))
            return self._stubs[service]

    def _channel(self, service: str) -> grpc.aio.Channel:
        target, credentials = self._targets.of(service), self._credentials
        # Services at one address share a channel, but not if each must prove its own identity.
        key = (target, service if credentials else "")
        if key not in self._channels:
            if credentials is None:
                self._channels[key] = grpc.aio.insecure_channel(target, options=self._options)
            else:
                options = (*self._options, *expecting(service, self._trust_domain))
                self._channels[key] = grpc.aio.secure_channel(target, credentials, options=options)
        return self._channels[key]
