"""The pieces that are left: read from the inventory service, by campaign, with the pieces that went in a minute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from groupbuy.groups.v1.campaigns_pb2 import Campaign, ListCampaignsRequest, ListCampaignsResponse
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceServicer, add_CampaignServiceServicer_to_server
from groupbuy.inventory.v1.decisions_pb2 import OFFER_STATE_ENDED, OFFER_STATE_LIVE
from groupbuy.inventory.v1.stocks_pb2 import ListStocksRequest, ListStocksResponse, Stock
from groupbuy.inventory.v1.stocks_pb2_grpc import StockServiceServicer, add_StockServiceServicer_to_server

from console.live import stock as stock_module
from console.live.board import Board
from console.live.services import Services
from console.live.stock import Level, Stocks
from console.pages.live import LiveChannel
from console.settings import ConsoleSettings
from ops.watch.view import View
from tests.unit.console.support import card, report


class Inventory(StockServiceServicer, CampaignServiceServicer):
    """Two pages of stock items, and campaigns with and without one."""

    def __init__(self) -> None:
        self.stocks = {
            "stocks/mugs": Stock(
                name="stocks/mugs", display_name="Mugs", total=100, free=90, leased=6, sold=4, waiting=2
            ),
            "stocks/old": Stock(name="stocks/old", total=5, state=OFFER_STATE_ENDED),
            "stocks/lonely": Stock(name="stocks/lonely", total=5, free=5, state=OFFER_STATE_LIVE),
        }

    async def ListStocks(self, request: ListStocksRequest, context: Any) -> ListStocksResponse:
        at = int(request.page_token or 0)
        names = sorted(self.stocks)
        following = str(at + 2) if at + 2 < len(names) else ""
        return ListStocksResponse(stocks=[self.stocks[one] for one in names[at : at + 2]], next_page_token=following)

    async def ListCampaigns(self, request: ListCampaignsRequest, context: Any) -> ListCampaignsResponse:
        known = (("mug-1", "stocks/mugs"), ("mug-2", "stocks/mugs"), ("hat-1", ""), ("old-1", "stocks/old"))
        return ListCampaignsResponse(campaigns=[Campaign(name=f"campaigns/{one}", stock=two) for one, two in known])


@pytest.fixture
async def inventory(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Inventory, Services, Stocks]]:
    monkeypatch.setattr(stock_module, "STOCKS_S", 0.01)
    made, server = Inventory(), grpc.aio.server()  # type: ignore[abstract]
    add_StockServiceServicer_to_server(made, server)
    add_CampaignServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    services = Services(ConsoleSettings(insecure=True, groups=f"127.0.0.1:{port}", inventory=f"127.0.0.1:{port}"), None)
    stocks = Stocks(services)
    following = asyncio.create_task(stocks.follow())
    yield made, services, stocks
    following.cancel()
    await services.close()
    await server.stop(0)


async def changed(stocks: Stocks) -> None:
    """Returns after the next change."""
    seen = asyncio.Event()
    stocks.on_change(seen.set)
    async with asyncio.timeout(5):
        await seen.wait()


async def test_pieces_are_those_of_the_campaigns_that_share_them(
    inventory: tuple[Inventory, Services, Stocks],
) -> None:
    _, _, stocks = inventory
    await changed(stocks)
    mugs = Level("stocks/mugs", "Mugs", 100, 90, 6, 4, 2, 0)
    assert stocks.of("mug-1", ()) == stocks.of("", ("hat-1", "mug-2", "mug-1")) == [mugs]
    assert stocks.of("hat-1", ("mug-1",)) == stocks.of("", ("old-1", "hat-1")) == []
    assert mugs.minutes_left is None


async def test_the_rate_is_what_groups_took_within_a_minute(inventory: tuple[Inventory, Services, Stocks]) -> None:
    service, services, stocks = inventory
    await changed(stocks)
    board = Board(View(1))
    board.take(report(card(1)))
    page = LiveChannel(board, services, stocks)
    page.update()
    assert "90</b> of 100 pieces left" in page.part("stock") and "2 groups in line" in page.part("stock")
    assert "in a minute" not in page.part("stock")
    mugs = service.stocks["stocks/mugs"]
    mugs.free, mugs.leased, mugs.sold = 60, 10, 30
    await changed(stocks)
    (level,) = stocks.of("mug-1", ())
    assert (level.taken, level.minutes_left) == (30, 2)
    page.update()
    assert "30 in a minute, gone in about 2 min" in page.part("stock")


async def test_without_an_address_nothing_is_read() -> None:
    services = Services(ConsoleSettings(insecure=True), None)
    stocks = Stocks(services)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await stocks.follow()
    page = LiveChannel(Board(View(1)), services, stocks)
    page.update()
    assert stocks.of("", ("mug-1",)) == [] and page.part("stock") == ""
    await services.close()
