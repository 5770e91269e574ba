"""The client for programs on an event loop. Use it on the loop that it was first used on.

Each call has a deadline, is repeated where that is safe, and raises a GroupbuyError. Must never hold a rule of the
services.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
import stamina
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
    ATTEMPTS,
    OPTIONS,
    PATIENCE_S,
    TIMEOUT_S,
    TRUST_DOMAIN,
    Deadline,
    Pauses,
    Targets,
    expecting,
)

_ORDERS = ("orders", orders_pb2_grpc.OrderServiceStub)
_GROUPS = ("groups", groups_pb2_grpc.GroupServiceStub)
_LINKS = ("groups", links_pb2_grpc.LinkServiceStub)
_CAMPAIGNS = ("groups", campaigns_pb2_grpc.CampaignServiceStub)
_PAYMENTS = ("payments", payments_pb2_grpc.PaymentServiceStub)

#: Process that serves it, and the generated stub.
_Service = tuple[str, Callable[[Any], Any]]


class AsyncClient:
    """All services of group buying. Close it, or use it in an `async with` block."""

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
        """`target` is host:port of all that has none of its own. Without credentials nothing is encrypted: see mtls.
        With credentials the server at each target must have the identity of the service, in `trust_domain`.

        `timeout_s` is for each call that says nothing else, its retries included; `options` are gRPC's, of channels.
        """
        self._targets = Targets(orders or target, groups or target, payments or target)
        self._credentials = credentials
        self._trust_domain = trust_domain
        self._timeout_s = timeout_s
        self._options = (*OPTIONS, *options)
        self._channels: dict[tuple[str, str], grpc.aio.Channel] = {}
        self._stubs: dict[_Service, Any] = {}

    async def close(self) -> None:
        """Ends all calls and closes the channels."""
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
        """Places an order; its token given to get_order reads one's own write. A refused order is an answer too."""
        return await self._call(_ORDERS, "PlaceOrder", requests.place_order(order), timeout_s)

    async def place_orders(
        self,
        orders: Iterable[requests.PlaceOrder | orders_pb2.PlaceOrderRequest],
        *,
        timeout_s: float | None = None,
    ) -> list[orders_pb2.PlaceOrderResult]:
        """Places up to 500 orders at once. Each succeeds or fails by itself: see errors.of_status for its status."""
        request = requests.place_orders(orders)
        return list((await self._call(_ORDERS, "BatchPlaceOrders", request, timeout_s)).results)

    async def get_order(self, name: str, *, token: str = "", timeout_s: float | None = None) -> orders_pb2.Order:
        """An order; with a token of place_order, not before what it stands for is seen."""
        return await self._call(_ORDERS, "GetOrder", orders_pb2.GetOrderRequest(name=name, token=token), timeout_s)

    def list_orders(
        self, parent: str, *, customer: str = "", token: str = "", timeout_s: float | None = None
    ) -> AsyncIterator[orders_pb2.Order]:
        """All orders of groups/{group}, or of a customer with parent groups/-. Pages are fetched as they are needed."""
        request = orders_pb2.ListOrdersRequest(parent=parent, customer=customer, token=token)
        return self._all(_ORDERS, "ListOrders", request, "orders", timeout_s)

    async def cancel_order(
        self, name: str, *, reason: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> orders_pb2.Order:
        """Leaves the group. Raises FailedPrecondition once the group has closed."""
        return await self._call(_ORDERS, "CancelOrder", requests.cancel_order(name, reason, request_id), timeout_s)

    def watch_order(
        self, name: str, *, from_revision: int = 0, patience_s: float = PATIENCE_S
    ) -> AsyncIterator[orders_pb2.Order]:
        """The order, then each change, until its state is final. Goes on after a lost connection, repeating nothing."""
        request = orders_pb2.WatchOrderRequest(name=name, from_revision=from_revision)
        return self._watch(_ORDERS, "WatchOrder", request, "from_revision", "revision", patience_s)

    # Groups and their links -----------------------------------------------------------------------------------------

    async def get_group(self, name: str, *, timeout_s: float | None = None) -> groups_pb2.Group:
        """A group."""
        return await self._call(_GROUPS, "GetGroup", groups_pb2.GetGroupRequest(name=name), timeout_s)

    def list_groups(self, campaign: str, *, timeout_s: float | None = None) -> AsyncIterator[groups_pb2.Group]:
        """A campaign's open groups, nearest to completion first."""
        request = groups_pb2.ListGroupsRequest(campaign=campaign)
        return self._all(_GROUPS, "ListGroups", request, "groups", timeout_s)

    async def cancel_group(
        self, name: str, *, reason: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> groups_pb2.Group:
        """Ends a forming group; all are let go. Raises FailedPrecondition once it has closed."""
        return await self._call(_GROUPS, "CancelGroup", requests.cancel_group(name, reason, request_id), timeout_s)

    def watch_group(
        self, name: str, *, from_version: int = 0, patience_s: float = PATIENCE_S
    ) -> AsyncIterator[groups_pb2.Group]:
        """The group, then each change, until nothing can change any more. Goes on after a lost connection."""
        request = groups_pb2.WatchGroupRequest(name=name, from_version=from_version)
        return self._watch(_GROUPS, "WatchGroup", request, "from_version", "version", patience_s)

    async def create_share_link(
        self, *, timeout_s: float | None = None, **link: Unpack[requests.CreateShareLink]
    ) -> links_pb2.CreateShareLinkResponse:
        """A link to a group or a campaign."""
        return await self._call(_LINKS, "CreateShareLink", requests.create_share_link(link), timeout_s)

    async def resolve_share_link(
        self, token: str, *, timeout_s: float | None = None
    ) -> links_pb2.ResolveShareLinkResponse:
        """What a link opens; where its group has closed, open groups instead."""
        request = links_pb2.ResolveShareLinkRequest(token=token)
        return await self._call(_LINKS, "ResolveShareLink", request, timeout_s)

    # Campaigns ------------------------------------------------------------------------------------------------------

    async def create_campaign(
        self, *, timeout_s: float | None = None, **campaign: Unpack[requests.CreateCampaign]
    ) -> campaigns_pb2.Campaign:
        """Makes an offer."""
        return await self._call(_CAMPAIGNS, "CreateCampaign", requests.create_campaign(campaign), timeout_s)

    async def get_campaign(self, name: str, *, timeout_s: float | None = None) -> campaigns_pb2.Campaign:
        """An offer."""
        return await self._call(_CAMPAIGNS, "GetCampaign", campaigns_pb2.GetCampaignRequest(name=name), timeout_s)

    def list_campaigns(
        self, *, show_archived: bool = False, timeout_s: float | None = None
    ) -> AsyncIterator[campaigns_pb2.Campaign]:
        """All offers, by name."""
        request = campaigns_pb2.ListCampaignsRequest(show_archived=show_archived)
        return self._all(_CAMPAIGNS, "ListCampaigns", request, "campaigns", timeout_s)

    async def update_campaign(
        self, campaign: campaigns_pb2.Campaign, *, update_mask: Iterable[str] = (), timeout_s: float | None = None
    ) -> campaigns_pb2.Campaign:
        """Edits an offer; open groups keep their terms. With an etag, raises Conflict where another edit came first."""
        request = requests.update_campaign(campaign, update_mask)
        return await self._call(_CAMPAIGNS, "UpdateCampaign", request, timeout_s)

    async def archive_campaign(
        self, name: str, *, etag: str = "", timeout_s: float | None = None
    ) -> campaigns_pb2.Campaign:
        """No new groups from now on."""
        request = campaigns_pb2.ArchiveCampaignRequest(name=name, etag=etag)
        return await self._call(_CAMPAIGNS, "ArchiveCampaign", request, timeout_s)

    # Payments -------------------------------------------------------------------------------------------------------

    async def get_payment(self, name: str, *, timeout_s: float | None = None) -> payments_pb2.Payment:
        """The payment of an order, groups/{group}/orders/{order}/payment."""
        return await self._call(_PAYMENTS, "GetPayment", payments_pb2.GetPaymentRequest(name=name), timeout_s)

    def list_payments(self, parent: str, *, timeout_s: float | None = None) -> AsyncIterator[payments_pb2.Payment]:
        """All payments of groups/{group}."""
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
        """Gives money back after its capture; all that is left of it where no amount is said."""
        request = requests.refund_payment(name, amount_minor, currency, reason, request_id)
        return await self._call(_PAYMENTS, "RefundPayment", request, timeout_s)

    async def get_balances(
        self, *, currency: str = "", timeout_s: float | None = None
    ) -> ledger_pb2.GetBalancesResponse:
        """Balances of the ledger, of one currency or of all."""
        request = ledger_pb2.GetBalancesRequest(currency=currency)
        return await self._call(_PAYMENTS, "GetBalances", request, timeout_s)

    # How ------------------------------------------------------------------------------------------------------------

    async def _call(self, service: _Service, method: str, request: Any, timeout_s: float | None) -> Any:
        call = getattr(self._stub(service), method)
        deadline = Deadline(self._timeout_s if timeout_s is None else timeout_s)
        async for attempt in stamina.retry_context(on=deadline.again, attempts=ATTEMPTS, timeout=None):
            with attempt:
                try:
                    return await call(request, timeout=deadline.left_s)
                except grpc.RpcError as error:
                    raise of_rpc(error) from error
        raise AssertionError("unreachable: an attempt returns or raises")

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
        self, service: _Service, method: str, request: Any, after: str, number: str, patience_s: float
    ) -> AsyncIterator[Any]:
        pauses = Pauses(patience_s)
        while True:
            stream = getattr(self._stub(service), method)(request)
            try:
                async for seen in stream:
                    pauses.heard()
                    setattr(request, after, getattr(seen, number))
                    yield seen
            except grpc.RpcError as error:
                pause_s = pauses.after(of_rpc(error))
            else:
                return
            finally:
                # Also where the caller wants no more.
                stream.cancel()
            await asyncio.sleep(pause_s)

    def _stub(self, service: _Service) -> Any:
        if service not in self._stubs:
            name, make = service
            self._stubs[service] = make(self._channel(name))
        return self._stubs[service]

    def _channel(self, service: str) -> grpc.aio.Channel:
        target, credentials = self._targets.of(service), self._credentials
        # Services at one address share a channel only where none is expected to prove which one it is.
        key = (target, service if credentials else "")
        if key not in self._channels:
            if credentials is None:
                self._channels[key] = grpc.aio.insecure_channel(target, options=self._options)
            else:
                options = (*self._options, *expecting(service, self._trust_domain))
                self._channels[key] = grpc.aio.secure_channel(target, credentials, options=options)
        return self._channels[key]
