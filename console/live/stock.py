"""Pieces that are left and how fast they go, for campaigns with stock. Read from the inventory service by polling.

Without an address of the inventory service nothing is read, and no page shows pieces.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import grpc
from groupbuy.groups.v1.campaigns_pb2 import ListCampaignsRequest
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceStub
from groupbuy.inventory.v1.decisions_pb2 import OFFER_STATE_ENDED
from groupbuy.inventory.v1.stocks_pb2 import ListStocksRequest, Stock
from groupbuy.inventory.v1.stocks_pb2_grpc import StockServiceStub

from console.live.services import CALL_S, INVENTORY, Services

log = logging.getLogger(__name__)

#: Seconds between two readings of the stock items, and of the campaigns.
STOCKS_S = 1.0
CAMPAIGNS_S = 5.0
#: Seconds over which the pieces that went are counted.
WINDOW_S = 60.0
_PAGE = 500
_MAX_PAGES = 20


class Level(NamedTuple):
    """A stock item."""

    #: stocks/{stock}
    name: str
    title: str
    total: int
    #: Pieces that a group can still get.
    free: int
    #: Pieces of groups that form or are being charged, and of charged members.
    leased: int
    sold: int
    #: Groups that wait in line for pieces.
    waiting: int
    #: Pieces that groups took within WINDOW_S, less those that came back.
    taken: int

    @property
    def minutes_left(self) -> int | None:
        """Minutes until no piece is free at the present rate; None: nothing goes at present."""
        return round(self.free / self.taken * WINDOW_S / 60) if self.taken > 0 else None


class Stocks:
    """The stock items of all campaigns."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._levels: dict[str, Level] = {}
        #: Ids of campaigns by the name of their stock item.
        self._campaigns: dict[str, set[str]] = {}
        #: Pieces that groups had, with the monotonic time of the reading.
        self._had: dict[str, deque[tuple[float, int]]] = {}
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls `listener` after each change."""
        self._listeners.append(listener)

    def of(self, campaign: str, others: Iterable[str]) -> list[Level]:
        """The stock item of a campaign; without one, those of `others` in their order."""
        wanted = [campaign] if campaign else others
        found: dict[str, Level] = {}
        for one in wanted:
            for name, campaigns in self._campaigns.items():
                if one in campaigns and name in self._levels:
                    found.setdefault(name, self._levels[name])
        return list(found.values())

    async def follow(self) -> None:
        """Reads the inventory again and again, until it is cancelled."""
        if INVENTORY not in self._services.channels:
            await asyncio.Event().wait()
        read_s, away = 0.0, False
        while True:
            try:
                if not read_s or time.monotonic() - read_s >= CAMPAIGNS_S:
                    await self._read_campaigns()
                    read_s = time.monotonic()
                await self._read_stocks()
                away = False
            except grpc.aio.AioRpcError as error:
                # The page keeps the last figures, and a line on top says which service is away.
                if not away:
                    log.warning("the stock can't be read, retrying: %s", error.code().name)
                away = True
            await asyncio.sleep(STOCKS_S)

    async def _read_campaigns(self) -> None:
        stub = CampaignServiceStub(self._services.channel("groups"))
        request = ListCampaignsRequest(page_size=_PAGE)
        found: dict[str, set[str]] = {}
        for _ in range(_MAX_PAGES):
            page = await stub.ListCampaigns(request, timeout=CALL_S)
            for one in page.campaigns:
                if one.stock:
                    found.setdefault(one.stock, set()).add(one.name.removeprefix("campaigns/"))
            request.page_token = page.next_page_token
            if not request.page_token:
                break
        self._campaigns = found

    async def _read_stocks(self) -> None:
        stub = StockServiceStub(self._services.channel(INVENTORY))
        request = ListStocksRequest(page_size=_PAGE)
        found: dict[str, Level] = {}
        for _ in range(_MAX_PAGES):
            page = await stub.ListStocks(request, timeout=CALL_S)
            now_s = time.monotonic()
            for one in page.stocks:
                if one.name in self._campaigns and one.state != OFFER_STATE_ENDED:
                    found[one.name] = self._level(one, now_s)
            request.page_token = page.next_page_token
            if not request.page_token:
                break
        for name in self._had.keys() - found.keys():
            del self._had[name]
        if found != self._levels:
            self._levels = found
            for listener in self._listeners:
                listener()

    def _level(self, one: Stock, now_s: float) -> Level:
        had = self._had.setdefault(one.name, deque())
        had.append((now_s, one.leased + one.sold))
        while had[0][0] < now_s - WINDOW_S:
            had.popleft()
        taken = max(0, one.leased + one.sold - had[0][1])
        return Level(
            one.name, one.display_name or one.name.removeprefix("stocks/"), one.total, one.free, one.leased, one.sold,
            one.waiting, taken,
        )  # fmt: skip
