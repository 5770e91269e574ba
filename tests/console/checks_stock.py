"""Checks of a system with stock: pieces left and their rate, and the readers of the inventory service."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceStub
from groupbuy.inventory.v1.stocks_pb2 import CreateStockRequest, GetStockRequest, Stock
from groupbuy.inventory.v1.stocks_pb2_grpc import StockServiceStub
from playwright.sync_api import Browser, expect

from devstack.product import INVENTORY, WITH_STOCK_AND_CONSOLE
from devstack.supervision.waiting import wait_for
from ops.watch.lag import OPTIONAL
from tests.console import checks_looks as looks
from tests.console.browser import DESK, page_of
from tests.console.shop import Shop, shop_of
from tests.console.site import Site

PIECES = 40
_STEP_S = 30.0


def with_stock(browser: Browser, directory: Path, *, pictures: bool) -> None:
    """Starts a system with stock and checks it. With `pictures`, takes one of the live page."""
    site = Site(directory, WITH_STOCK_AND_CONSOLE)
    with site.stack, shop_of(site.stack) as shop:
        site.wait_console()
        pieces_left(browser, site, shop)
        readers_are_watched(site)
        found = looks.look(browser, {"stock": looks.View(f"{site.console}/")}, write=pictures, quick=False)
        assert not found.axe and not found.sideways, "\n".join([*found.axe, *found.sideways])


def pieces_left(browser: Browser, site: Site, shop: Shop) -> None:
    """The live page has the pieces left and how many went in a minute, without a reload, and survives a kill."""
    campaign = _campaign_with_stock(site)
    with page_of(browser, DESK) as page:
        page.goto(f"{site.console}/?campaign={campaign.removeprefix('campaigns/')}")
        left = page.locator(".stock .count b")
        expect(left).to_have_text(str(PIECES))
        assert page.locator(".stock .hot").count() == 0
        shop.join(shop.open(campaign), 3)
        expect(left).not_to_have_text(str(PIECES))
        expect(page.locator(".stock .hot")).to_contain_text("in a minute")
        shown = int(left.inner_text())
        free = _free(site)
        assert shown == free and 0 < free < PIECES, (shown, free)
        site.stack.kill(INVENTORY)
        expect(page.locator("#away")).to_contain_text("inventory is away, reconnecting")
        site.stack.wait_serving(INVENTORY)
        expect(page.locator("#away")).to_be_empty()


def readers_are_watched(site: Site) -> None:
    """The readers of the inventory are on the page Health."""

    def shown() -> bool:
        text = site.get(f"{site.console}/health").text
        return all(f"<h3>{one.removeprefix('groupbuy.')}</h3>" in text for one in OPTIONAL)

    assert wait_for(shown, timeout_s=_STEP_S, every_s=0.3), site.get(f"{site.console}/health").text


def readers_are_off(site: Site) -> None:
    """Where the inventory is off, none of its readers is anywhere."""
    text = site.get(f"{site.console}/health").text
    assert "<h3>groups.decider</h3>" in text and "all well" in text, text
    printed = site.ops("lag")
    for one in OPTIONAL:
        assert one.removeprefix("groupbuy.") not in text and one not in printed, one


def _campaign_with_stock(site: Site) -> str:
    with grpc.insecure_channel(site.stack.endpoints[INVENTORY]) as channel:
        stock = Stock(display_name="Lychees of the season", total=PIECES)
        request = CreateStockRequest(stock=stock, stock_id="lychees", request_id=str(uuid4()))
        name = StockServiceStub(channel).CreateStock(request, timeout=_STEP_S).name
    campaign = Campaign(product="Lychees, 5 kg", currency="CNY", solo_price_minor=9_900, capacity=20, stock=name)
    campaign.window.CopyFrom(Duration(seconds=1_800))
    campaign.hold_window.CopyFrom(Duration(seconds=20))
    for members, price in ((5, 7_900), (20, 6_900)):
        campaign.tiers.add(members=members, unit_price_minor=price)
    with grpc.insecure_channel(site.stack.endpoints["groups"]) as channel:
        made = CreateCampaignRequest(campaign=campaign, campaign_id="lychees-of-may", request_id=str(uuid4()))
        created: Campaign = CampaignServiceStub(channel).CreateCampaign(made, timeout=_STEP_S)
    return created.name


def _free(site: Site) -> int:
    with grpc.insecure_channel(site.stack.endpoints[INVENTORY]) as channel:
        found: Stock = StockServiceStub(channel).GetStock(GetStockRequest(name="stocks/lychees"), timeout=_STEP_S)
    return found.free
