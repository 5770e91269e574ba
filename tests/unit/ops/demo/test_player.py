"""The demo's client retries transient errors with the same request, and collects unexpected ones.

Method: a small order service in this process that injects faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid5

import grpc
import pytest
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceServicer, add_CampaignServiceServicer_to_server
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_STATE_CANCELLED,
    ORDER_STATE_REFUSED,
    ORDER_STATE_RESERVED,
    CancelOrderRequest,
    Order,
    PlaceOrderRequest,
    PlaceOrderResponse,
)
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceServicer, add_OrderServiceServicer_to_server

from ops.demo.offers import OFFERS
from ops.demo.plan import Evening, Party, Plot, Role, Visit
from ops.demo.player import Player, Tally

RUN = UUID("00000000-0000-4000-8000-0000000000aa")
Context = grpc.aio.ServicerContext[Any, Any]


class Shop(OrderServiceServicer, CampaignServiceServicer):
    """Seats for two in every group."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.orders: dict[str, Order] = {}
        self.fails: dict[str, list[grpc.StatusCode]] = {}
        self.campaigns: list[CreateCampaignRequest] = []

    async def PlaceOrder(self, request: PlaceOrderRequest, context: Context) -> PlaceOrderResponse:
        self.requests[request.request_id] += 1
        planned = self.fails.get(request.customer)
        if planned:
            await context.abort(planned.pop(0), "planned")
        if request.request_id not in self.orders:
            group = request.group or f"groups/{uuid5(RUN, request.request_id)}"
            members = [order for order in self.orders.values() if order.group == group]
            self.orders[request.request_id] = Order(
                name=f"{group}/orders/{uuid5(RUN, 'o' + request.request_id)}",
                group=group,
                state=ORDER_STATE_RESERVED if len(members) < 2 else ORDER_STATE_REFUSED,
            )
        return PlaceOrderResponse(order=self.orders[request.request_id])

    async def CancelOrder(self, request: CancelOrderRequest, context: Context) -> Order:
        (order,) = [order for order in self.orders.values() if order.name == request.name]
        if order.state == ORDER_STATE_REFUSED:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "too late")
        return Order(name=order.name, state=ORDER_STATE_CANCELLED)

    async def CreateCampaign(self, request: CreateCampaignRequest, context: Context) -> Campaign:
        self.campaigns.append(request)
        return request.campaign


@pytest.fixture
async def shop() -> Shop:
    return Shop()  # type: ignore[abstract]  # methods that the player does not call


@pytest.fixture
async def tally() -> Tally:
    return Tally()


@pytest.fixture
async def player(shop: Shop, tally: Tally) -> AsyncIterator[Player]:
    server = grpc.aio.server()
    add_OrderServiceServicer_to_server(shop, server)
    add_CampaignServiceServicer_to_server(shop, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Player(channel, channel, RUN, tally)
    await server.stop(None)


def visit(name: str, role: Role = Role.JOINS, copies: int = 1, cancels_at_s: float | None = None) -> Visit:
    return Visit(0.0, name, role, 1, "card_ok", str(uuid5(RUN, name)), copies, cancels_at_s)


def evening(*visits: Visit) -> Evening:
    return Evening(1, OFFERS, (Party(OFFERS[0], Plot.FILLS, visits),), kill_at_s=0, ends_at_s=0)


async def test_joiners_join_the_group_that_their_leader_opened(player: Player, shop: Shop, tally: Tally) -> None:
    await player.play(evening(visit("ann", Role.LEADS), visit("bob"), visit("cid")))
    assert len({order.group for order in shop.orders.values()}) == 1
    assert tally.answers == {"RESERVED": 2, "REFUSED": 1}
    assert len(tally.acknowledged) == tally.placed == 3
    assert tally.errors == []


async def test_a_call_to_an_unavailable_service_is_retried_with_the_same_request(
    player: Player, shop: Shop, tally: Tally
) -> None:
    shop.fails["ann"] = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]
    await player.play(evening(visit("ann", Role.LEADS)))
    assert list(shop.requests.values()) == [3]
    assert tally.retries == 2
    assert tally.errors == []


async def test_a_request_sent_five_times_is_one_order(player: Player, shop: Shop, tally: Tally) -> None:
    await player.play(evening(visit("ann", Role.LEADS, copies=5)))
    assert list(shop.requests.values()) == [5]
    assert (tally.placed, tally.duplicates, len(tally.acknowledged)) == (1, 4, 1)


async def test_an_unexpected_error_is_collected_and_the_evening_continues(
    player: Player, shop: Shop, tally: Tally
) -> None:
    shop.fails["bob"] = [grpc.StatusCode.INTERNAL]
    await player.play(evening(visit("ann", Role.LEADS), visit("bob"), visit("cid")))
    assert tally.errors == ["PlaceOrder: INTERNAL: planned"]
    assert tally.answers == {"RESERVED": 2}


async def test_an_early_cancellation_succeeds_and_a_late_one_is_counted(player: Player, tally: Tally) -> None:
    visits = [visit("ann", Role.LEADS), visit("bob", cancels_at_s=0.0), visit("cid"), visit("dan", cancels_at_s=0.0)]
    await player.play(evening(*visits))
    assert tally.cancelled + tally.too_late_to_cancel == 2
    assert tally.errors == []


async def test_campaigns_have_ids_of_this_run(player: Player, shop: Shop) -> None:
    await player.open_shop(evening())
    assert [made.campaign_id for made in shop.campaigns] == [player.campaign_id(offer) for offer in OFFERS]
    assert all(made.campaign_id.endswith("-000000") for made in shop.campaigns)
