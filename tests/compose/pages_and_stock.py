"""The layers of the console and of the inventory: pages with and without a password, a share link, and a stock item."""

from __future__ import annotations

import base64
import re
import urllib.error
import urllib.request
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest, Tier
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceStub
from groupbuy.inventory.v1.stocks_pb2 import CreateStockRequest, GetStockRequest, Stock
from groupbuy.inventory.v1.stocks_pb2_grpc import StockServiceStub
from groupbuy.links.v1.links_pb2 import SHARE_CHANNEL_FRIEND
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_STATE_REFUSED,
    ORDER_STATE_SETTLED,
    WAIT_SEAT_DECIDED,
    GetOrderRequest,
    Order,
    OrderState,
)
from groupbuy.orders.v1.orders_pb2_grpc import OrderServiceStub

from bench.api.load import order
from devstack.supervision.waiting import wait_for
from groupbuy_client import Client
from tests.compose.stack import ComposeStack

LAYERS = ("compose", "compose.console", "compose.inventory")
PIECES = 3
CALL_S, SHOWN_S, ENDED_S = 15.0, 60.0, 120.0


def check(stack: ComposeStack) -> dict[str, bool]:
    """Whether each claim holds, on a stack of LAYERS that is up."""
    for name in ("console", "inventory"):
        stack.wait_ready(name)
    return {**_console(stack), **_stock(stack)}


def _console(stack: ComposeStack) -> dict[str, bool]:
    found = re.search(r"name (\S+), password (\S+)", stack.compose("logs", "--no-color", "operators", timeout_s=60))
    assert found is not None, "the job `operators` printed no password"
    pages, share = (f"http://{stack.address(name)}" for name in ("console", "share"))
    product = f"mug-{uuid4().hex[:8]}"
    with Client(groups=stack.address("groups"), orders=stack.address("orders")) as shop:
        campaign = shop.create_campaign(
            product=product,
            currency="CNY",
            solo_price_minor=9_900,
            capacity=5,
            tiers=[(2, 8_900)],
            window=timedelta(seconds=600),
            hold_window=timedelta(seconds=600),
        )
        link = shop.create_share_link(target=campaign.name, inviter="ann", channel=SHARE_CHANNEL_FRIEND)
        shop.place_order(
            customer=uuid4().hex,
            campaign=campaign.name,
            quantity=1,
            currency="CNY",
            max_unit_price_minor=8_900,
            payment_method="card_ok",
        )
    shown = wait_for(lambda: product in _get(pages, *found.groups())[1], timeout_s=SHOWN_S, every_s=0.5)
    status, text = _get(link.url)
    return {
        "pages_need_a_password": _get(pages)[0] == _get(pages, found[1], "wrong")[0] == 401,
        "pages_show_the_group": shown,
        "link_leads_to_the_share_page": link.url.startswith(f"{share}/s/") and status == 200 and product in text,
        "share_page_serves_nothing_else": _get(f"{share}/health")[0] == 404,
    }


def _get(url: str, name: str = "", password: str = "") -> tuple[int, str]:
    """Status and text of a page."""
    request = urllib.request.Request(url)
    if name:
        request.add_header("Authorization", f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=CALL_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def _stock(stack: ComposeStack) -> dict[str, bool]:
    """A group buys all pieces, and the next order is refused."""
    with (
        grpc.insecure_channel(stack.address("inventory")) as inventory,
        grpc.insecure_channel(stack.address("groups")) as groups,
        grpc.insecure_channel(stack.address("orders")) as orders,
    ):
        stocks: Any = StockServiceStub(inventory)
        stock = stocks.CreateStock(
            CreateStockRequest(stock=Stock(display_name="mugs", total=PIECES), request_id=str(uuid4())), timeout=CALL_S
        ).name
        offer = Campaign(
            product="mug",
            currency="CNY",
            solo_price_minor=9_900,
            tiers=[Tier(members=2, unit_price_minor=8_900)],
            capacity=PIECES,
            window=Duration(seconds=600),
            hold_window=Duration(seconds=600),
            stock=stock,
        )
        request = CreateCampaignRequest(campaign=offer, request_id=str(uuid4()))
        campaign = CampaignServiceStub(groups).CreateCampaign(request, timeout=CALL_S).name
        shop: Any = OrderServiceStub(orders)

        def placed(group: str = "") -> Order:
            answer: Order = shop.PlaceOrder(order(campaign, group, WAIT_SEAT_DECIDED), timeout=CALL_S).order
            return answer

        def ends(one: Order, state: OrderState.ValueType) -> bool:
            def ended() -> bool:
                return bool(shop.GetOrder(GetOrderRequest(name=one.name), timeout=CALL_S).state == state)

            return wait_for(ended, timeout_s=ENDED_S, every_s=0.5)

        leader = placed()
        buyers = [leader, *(placed(leader.group) for _ in range(PIECES - 1))]
        # Until the pieces are leased, an order stands in line.
        settled = all(ends(one, ORDER_STATE_SETTLED) for one in buyers)
        late = placed()

        def sold() -> bool:
            found = stocks.GetStock(GetStockRequest(name=stock), timeout=CALL_S)
            return bool((found.sold, found.free, found.leased) == (PIECES, 0, 0))

        return {
            "orders_with_pieces_settle": settled,
            "without_pieces_an_order_is_refused": ends(late, ORDER_STATE_REFUSED),
            "pieces_are_sold": wait_for(sold, timeout_s=ENDED_S, every_s=0.5),
        }
