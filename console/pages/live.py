"""The live page: forming groups, tiles, newest endings."""

from __future__ import annotations

from typing import NamedTuple

from console.live.board import Board, fitting, momentum, now_ms
from console.live.ladder import ladder_of
from console.live.reports import Card
from console.live.services import Services
from console.live.stock import Stocks
from console.web.channel import Channel
from console.web.templates import count, fragment
from ops.terminal.amounts import amount
from ops.watch.folding.summary import Money

#: Groups on the page; the next deadlines come first.
MAX_CARDS = 48
#: Campaigns with a filter, those with the most groups, and stock items that are shown.
MAX_CAMPAIGNS = 12
MAX_STOCKS = 8
_MACROS = "macros.html"


class Tile(NamedTuple):
    """A figure at the top of the page."""

    label: str
    values: list[str]
    note: str = ""
    tone: str = ""


def held_minor(money: Money) -> int:
    """The money that providers hold and nobody has captured yet."""
    return money.held - money.captured - money.voided - money.lapsed


class LiveChannel(Channel):
    """The live page of a campaign or a live room, or of all."""

    def __init__(self, board: Board, services: Services, stocks: Stocks, campaign: str = "", room: str = "") -> None:
        super().__init__()
        self._board = board
        self._stocks = stocks
        self._services = services
        self._campaign = campaign
        self._room = room
        #: Card, seats within the last minute, and HTML, by group: few cards change between two frames.
        self._drawn: dict[str, tuple[Card, int, str]] = {}

    def refresh(self) -> None:
        """Sets all parts and lists."""
        board, at_ms = self._board, now_ms()
        forming, total = board.forming(self._campaign, self._room, MAX_CARDS)
        self.set_part("away", self._services.notice())
        self.set_part("tiles", fragment(_MACROS, "tiles", self._tiles(total)))
        campaigns, rooms = board.campaigns()[:MAX_CAMPAIGNS], board.live_rooms(self._campaign, at_ms)
        self.set_part("filters", fragment(_MACROS, "filters", campaigns, rooms, self._campaign, self._room))
        levels = self._stocks.of(self._campaign, (name for name, _, _ in campaigns))
        self.set_part("stock", fragment(_MACROS, "stock", levels[:MAX_STOCKS]))
        self.set_list("groups", self._cards(forming, at_ms))
        self.set_part("more", self._more(total))
        for name, endings, empty in (
            ("completed", board.completed, "No group completed yet."),
            ("failed", board.failed, "Nothing failed."),
        ):
            found = list(fitting(endings, self._campaign, self._room))[:10]
            self.set_part(name, fragment(_MACROS, "endings", found, empty))

    def _cards(self, cards: list[Card], at_ms: int) -> list[tuple[str, str]]:
        drawn: dict[str, tuple[Card, int, str]] = {}
        for card in cards:
            recent = momentum(card, at_ms)
            known = self._drawn.get(card.key)
            if known is None or known[0] is not card or known[1] != recent:
                view = ladder_of(card.tiers, card.solo_price_minor, card.capacity, card.confirmed, card.taken)
                known = card, recent, fragment(_MACROS, "card", card, view, recent)
            drawn[card.key] = known
        self._drawn = drawn
        return [(key, html) for key, (_, _, html) in drawn.items()]

    def _more(self, forming: int) -> str:
        if not self._board.caught_up:
            return f"reading the logs, {count(self._board.view.behind)} records left"
        if not forming:
            return "no open group: the next order that opens one appears here"
        return f"{forming} open" + (f", the next {MAX_CARDS} to close" if forming > MAX_CARDS else "")

    def _tiles(self, forming: int) -> list[Tile]:
        totals = self._board.view.totals
        held, captured = [], []
        for currency, money in sorted(totals.money.items()):
            held.append(amount(held_minor(money), currency))
            captured.append(amount(money.captured, currency))
        rows = [row for row in self._board.view.lags.rows if row.records]
        slowest = max(rows, key=lambda row: row.seconds or 0.0, default=None)
        late = slowest.seconds or 0.0 if slowest else 0.0
        return [
            Tile("forming", [count(forming)], f"{count(totals.groups.get('settled', 0))} settled so far"),
            Tile("held", held or ["–"]),
            Tile("captured", captured or ["–"]),
            Tile(
                "slowest reader",
                [f"{late:.1f} s" if late >= 0.1 else "0 s"],
                slowest.group.removeprefix("groupbuy.") if slowest and late >= 1 else "all caught up",
                "bad" if late >= 30 else "",
            ),
        ]
