"""The inventory servicer with its deciders in memory: a command is decided as soon as it is published."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from groupbuy.inventory.v1.inbox_pb2 import StockInput

from eventlog.core.aggregate import Aggregate, decide
from eventlog.producing.record_accumulator import Position, Record
from eventlog.views.change_notifier import ChangeNotifier
from services.inventory.api.stocks import StockServicer
from services.inventory.domain.allowance.domain import AllowanceDomain
from services.inventory.domain.allowance.model import Allowance
from services.inventory.domain.stock.domain import StockDomain
from services.inventory.domain.stock.model import StockItem
from shared_kernel.topics import STOCK_INBOX

TIME_MS = 1_760_000_000_000


class Context:
    """The part of a call's context that the servicer reads."""

    def __init__(self, left_s: float = 5.0) -> None:
        self._left_s = left_s

    def time_remaining(self) -> float:
        return self._left_s


class Stocks:
    """The stock decider's view, and the publisher of its inbox."""

    def __init__(self) -> None:
        self.notifier = ChangeNotifier()
        self.aggregates: dict[str, Aggregate[StockItem]] = {}
        self.published: list[StockInput] = []
        #: False: what is published stays undecided.
        self.decides = True
        self._domain = StockDomain()

    def get(self, key: str) -> Aggregate[StockItem] | None:
        return self.aggregates.get(key)

    def items(self, partitions: Collection[int] | None, /) -> list[Aggregate[StockItem]]:
        return [one for one in self.aggregates.values() if one.state.revision]

    async def publish(self, topic: str, record: Record, *, timeout_s: float | None = None) -> Position:
        assert topic == STOCK_INBOX.name
        self.published.append(StockInput.FromString(record.value))
        if self.decides:
            asyncio.get_running_loop().call_soon(self.put, record.key, record.value)
        return Position(0, len(self.published) - 1, TIME_MS)

    def put(self, key: str, value: bytes) -> None:
        """Decides an input."""
        one = self.aggregates.setdefault(key, Aggregate(key, self._domain.initial(key)))
        domain: Any = self._domain
        decide(domain, one, value, one.cause + 1, TIME_MS + one.version)
        self.notifier.notify(key)


class Allowances:
    """The allowance decider's view."""

    def __init__(self) -> None:
        self.notifier = ChangeNotifier()
        self.aggregates: dict[str, Aggregate[Allowance]] = {}

    def get(self, key: str) -> Aggregate[Allowance] | None:
        return self.aggregates.get(key)

    def put(self, key: str, value: bytes) -> None:
        domain: Any = AllowanceDomain()
        one = self.aggregates.setdefault(key, Aggregate(key, Allowance()))
        decide(domain, one, value, one.cause + 1, TIME_MS)


class World:
    """The servicer and what it uses."""

    def __init__(self) -> None:
        self.stocks = Stocks()
        self.allowances = Allowances()
        self.servicer: Any = StockServicer(self.stocks, self.allowances, self.stocks, lambda: TIME_MS)
