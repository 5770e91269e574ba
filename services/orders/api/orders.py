"""OrderService: states what shoppers did as facts, and answers with what was decided about them.

Plain mistakes are refused here, before anything is written; whether there is a seat, and at what price, is for the
group's decider alone. Must never log a request: it holds the token of a payment method.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.decisions_pb2 import REFUSAL_REASON_CANCELLED
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_STATE_CANCELLED,
    ORDER_STATE_REFUSED,
    WAIT_ACCEPTED,
    WAIT_GROUP_CLOSED,
    WAIT_SEAT_DECIDED,
    WAIT_UNSPECIFIED,
    CancelOrderRequest,
    GetOrderRequest,
    Order,
    PlaceOrderRequest,
    PlaceOrderResponse,
    Wait,
    WatchOrderRequest,
)
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceServicer

from chassis.waiting import Patience
from eventlog.errors import BrokerUnavailable
from eventlog.publisher import Position
from services.orders.api import refusals
from services.orders.api.facts import Facts, cancel_requested, placed
from services.orders.api.ports import Campaigns, OrdersView, Publishes
from services.orders.api.reading import Reader, Seen
from services.orders.api.tokens import Token, decode, encode
from services.orders.domain.ids import (
    OrderName,
    campaign_of,
    group_id,
    group_of,
    is_id,
    order_id,
    parse_order,
    request_digest,
)
from services.orders.domain.orders import OrdersFold
from services.orders.domain.seat import REFUSALS
from services.orders.domain.view import OrderView

Context = grpc.aio.ServicerContext[Any, Any]

#: What PlaceOrder waits for.
WAITS: Mapping[Wait.ValueType, Callable[[OrderView], bool]] = {
    WAIT_UNSPECIFIED: lambda order: order.decided,
    WAIT_SEAT_DECIDED: lambda order: order.decided,
    WAIT_GROUP_CLOSED: lambda order: order.final,
}


def wall_clock_ms() -> int:
    """Milliseconds since the epoch, for headers that people read."""
    return time.time_ns() // 1_000_000


class OrderServicer(OrderServiceServicer):
    """The service `groupbuy.orders.v1.OrderService`."""

    def __init__(
        self, view: OrdersView, campaigns: Campaigns, publisher: Publishes, now_ms: Callable[[], int] = wall_clock_ms
    ) -> None:
        self._campaigns = campaigns
        self._reader = Reader(view, publisher)
        self._facts = Facts(publisher, now_ms)
        self._fold = OrdersFold()

    async def PlaceOrder(self, request: PlaceOrderRequest, context: Context) -> PlaceOrderResponse:
        """Places an order and waits as asked. The same request again answers with the same order."""
        patience = Patience(context)
        name = _named(request)
        digest = request_digest(request)
        seen = self._reader.find(name)
        fresh = seen is None
        if seen is None:
            await self._check(request, name, patience)
            seen, token = await self._place(name, placed(name, request, digest), patience)
        else:
            token = self._reader.here(name)
        _same_request(seen, digest)
        if request.wait != WAIT_ACCEPTED:
            enough = WAITS[request.wait]
            # A decision may be read before the fact it is about; with the fact the answer is whole.
            seen = await self._reader.when(
                name, lambda order: enough(order) and (order.placed or not fresh), patience, token
            )
            # Two requests with one id may have been under way at once: the log says whose the order is.
            _same_request(seen, digest)
        return PlaceOrderResponse(order=seen.message(), token=encode(token))

    async def GetOrder(self, request: GetOrderRequest, context: Context) -> Order:
        """An order as it is; with a token, not before what the token stands for is seen."""
        patience = Patience(context)
        name = _parsed(request.name)
        if request.token:
            await self._reader.passed(name, self._token(request.token, name), patience)
        return (await self._reader.require(name, patience)).message()

    async def CancelOrder(self, request: CancelOrderRequest, context: Context) -> Order:
        """Asks to leave the group, and answers with the decider's verdict."""
        patience = Patience(context)
        name = _parsed(request.name)
        seen = await self._reader.require(name, patience)
        if not _judged(seen.view):
            await self._append(cancel_requested(name, seen.view.customer, request), patience)
            seen = await self._reader.when(name, _judged, patience)
        if not _left(seen.view):
            raise refusals.not_cancellable(name, seen.view)
        return seen.message()

    async def WatchOrder(self, request: WatchOrderRequest, context: Context) -> AsyncIterator[Order]:
        """The order, then its changes; several at once are sent as one. Ends with a final state."""
        name = _parsed(request.name)
        sent = request.from_revision
        seen: Seen | None = await self._reader.require(name, Patience(context))
        with self._reader.watchers.watch(name.group) as watch:
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

    # Placing ----------------------------------------------------------------------------------------------------

    async def _check(self, request: PlaceOrderRequest, name: OrderName, patience: Patience) -> None:
        """Refuses what is plainly a mistake. Raises ApiError."""
        wanted = campaign_of(request.campaign)
        campaign = await self._campaign(wanted, patience)
        currency = campaign.currency
        if not request.group:
            if campaign.archived:
                raise refusals.campaign_archived(wanted)
        else:
            group = await self._reader.opened(name.group, patience)
            if group is None:
                raise refusals.group_not_found(name.group)
            if group.campaign != wanted:
                raise refusals.campaign_mismatch(wanted, group.campaign)
            # The group's frozen terms count, not the campaign as it is now.
            currency = group.currency or currency
        if request.currency != currency:
            raise refusals.currency_mismatch(request.currency, currency)

    async def _campaign(self, wanted: str, patience: Patience) -> Campaign:
        campaign = self._campaigns.find(wanted)
        if campaign is None:
            try:
                async with asyncio.timeout(patience.left_s()):
                    campaign = await self._campaigns.find_fresh(wanted)
            except TimeoutError:
                raise BrokerUnavailable("the campaigns' topic could not be read to its end in time") from None
        if campaign is None:
            raise refusals.campaign_not_found(wanted)
        return campaign

    async def _place(self, name: OrderName, fact: OrderFact, patience: Patience) -> tuple[Seen, Token]:
        """Appends the fact, and says what can be said before anybody has decided."""
        position = await self._append(fact, patience)
        seen = self._reader.find(name)
        if seen is None:
            group = self._fold.initial(name.group)
            self._fold.fold_fact(group, fact, position.timestamp_ms)
            seen = Seen(name, group, group.orders[name.order])
        return seen, Token(position.partition, position.offset)

    async def _append(self, fact: OrderFact, patience: Patience) -> Position:
        position = await self._facts.append(fact, patience)
        self._reader.wrote(Token(position.partition, position.offset))
        return position

    def _token(self, text: str, name: OrderName) -> Token:
        try:
            token = decode(text)
        except ValueError as error:
            raise refusals.invalid_field("token", str(error)) from None
        if token.partition != self._reader.partition(name.group):
            raise refusals.invalid_field("token", "is of another order")
        return token


def _named(request: PlaceOrderRequest) -> OrderName:
    """Ids of the order that a request places: the same for the same customer, request id and group."""
    if request.group:
        group = group_of(request.group)
        if not is_id(group):
            raise refusals.invalid_field("group", "is not the name of a group")
    else:
        group = group_id(request.customer, request.request_id)
    return OrderName(group, order_id(group, request.customer, request.request_id))


def _parsed(name: str) -> OrderName:
    try:
        return parse_order(name)
    except ValueError as error:
        raise refusals.invalid_field("name", str(error)) from None


def _same_request(seen: Seen, digest: bytes) -> None:
    """Raises ApiError where the request id stands for another payload."""
    if seen.view.request_sha256 and seen.view.request_sha256 != digest:
        raise refusals.request_id_reused(seen.name)


def _left(order: OrderView) -> bool:
    """Whether the shopper is out by their own wish: also one whose wish overtook the order."""
    return order.seat == ORDER_STATE_CANCELLED or (
        order.seat == ORDER_STATE_REFUSED and order.seat_reason == REFUSALS[REFUSAL_REASON_CANCELLED]
    )


def _judged(order: OrderView) -> bool:
    return order.final or bool(order.cancel_refused)
