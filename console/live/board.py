"""The state of the live page: forming groups, newest endings, live rooms, and the sums of the watch."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from console.live.reports import ROOM_MS, WELL, Card, Ending, Report, Room
from ops.watch.view import View

#: How long a seat counts for the momentum of its group.
MOMENTUM_MS = 60_000
_MAX_ENDINGS = 20
#: Cards that are kept; beyond them, those with the latest deadlines are dropped until their groups change.
MAX_KEPT = 40_000


def now_ms() -> int:
    """The time of this machine, in milliseconds since the epoch."""
    return int(time.time() * 1000)


class Board:
    """Takes the reports of the fold process. Listeners hear of each change."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.cards: dict[str, Card] = {}
        self.completed: deque[Ending] = deque(maxlen=_MAX_ENDINGS)
        self.failed: deque[Ending] = deque(maxlen=_MAX_ENDINGS)
        self.rooms: list[Room] = []
        #: The number of forming groups, with those that have no card here.
        self.forming_count = 0
        #: Whether the logs were read up to a recent end.
        self.caught_up = False
        self._on_change: list[Callable[[int], None]] = []
        self._on_touch: dict[str, list[Callable[[], None]]] = {}

    def on_change(self, listener: Callable[[int], None]) -> None:
        """Calls `listener` after each change, with the number of groups that changed."""
        self._on_change.append(listener)

    def on_touch(self, key: str, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` after new records of a group. Returns a function that ends this."""
        self._on_touch.setdefault(key, []).append(listener)

        def stop() -> None:
            listeners = self._on_touch[key]
            listeners.remove(listener)
            if not listeners:
                del self._on_touch[key]

        return stop

    def take(self, report: Report) -> None:
        """Takes the next report."""
        self.view.take(report.progress)
        if report.reset:
            self.cards.clear()
            self.completed.clear()
            self.failed.clear()
            self.rooms = []
        for card in report.cards:
            self.cards[card.key] = card
        for key in report.gone:
            self.cards.pop(key, None)
        self.forming_count = max(report.forming, len(self.cards))
        if len(self.cards) > MAX_KEPT:
            kept = heapq.nsmallest(MAX_KEPT // 2, self.cards.values(), key=_by_deadline)
            self.cards = {card.key: card for card in kept}
        for ending in report.endings:
            (self.completed if ending.kind in WELL else self.failed).appendleft(ending)
        if report.rooms is not None:
            self.rooms = report.rooms
        self.caught_up = self.view.complete
        self.tell(len(report.touched))
        for key in report.touched:
            for listener in self._on_touch.get(key, ()):
                listener()

    def tell(self, weight: int = 0) -> None:
        """Tells the listeners of a change."""
        for listener in self._on_change:
            listener(weight)

    def forming(self, campaign: str = "", room: str = "", limit: int = MAX_KEPT) -> tuple[list[Card], int]:
        """The forming groups of a campaign and a live room, or all, the next deadlines first; and the number of all."""
        if not campaign and not room:
            return heapq.nsmallest(limit, self.cards.values(), key=_by_deadline), self.forming_count
        found = [card for card in self.cards.values() if _fits(card, campaign, room)]
        return heapq.nsmallest(limit, found, key=_by_deadline), len(found)

    def live_rooms(self, campaign: str, at_ms: int) -> list[tuple[str, int, int]]:
        """Label, seats and groups of the live rooms of the last ROOM_MS, of one campaign or all, the newest first."""
        found: dict[str, tuple[int, int]] = {}
        for one in self.rooms:
            if at_ms - one.last_ms < ROOM_MS and campaign in {"", one.campaign}:
                seats, groups = found.get(one.label, (0, 0))
                found[one.label] = seats + one.seats, groups + one.groups
        return [(label, seats, groups) for label, (seats, groups) in found.items()]

    def campaigns(self) -> list[tuple[str, str, int]]:
        """Campaign, product and number of forming groups, the most first."""
        counts: dict[tuple[str, str], int] = {}
        for card in self.cards.values():
            name = card.campaign, card.product
            counts[name] = counts.get(name, 0) + 1
        return sorted(((*name, count) for name, count in counts.items()), key=lambda one: (-one[2], one[0]))


def fitting(endings: Iterable[Ending], campaign: str, room: str) -> Iterator[Ending]:
    """The endings of a campaign and a live room, or all."""
    return (one for one in endings if _fits(one, campaign, room))


def momentum(card: Card, at_ms: int) -> int:
    """The seats of a group within the last minute, as far as they are known."""
    return sum(at_ms - one < MOMENTUM_MS for one in card.joins)


def _by_deadline(card: Card) -> tuple[int, str]:
    return card.deadline_ms, card.key


def _fits(card: Card | Ending, campaign: str, room: str) -> bool:
    return (not campaign or card.campaign == campaign) and (not room or card.room == room)
