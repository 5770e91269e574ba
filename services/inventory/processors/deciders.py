"""The deciders of this service: stock items and allowances."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from eventlog.core.aggregate import Aggregate
from eventlog.processors.base import Connection
from eventlog.processors.decider import Decider
from eventlog.processors.observed_decisions import DecisionObserver
from services.inventory.domain.allowance.domain import AllowanceDomain
from services.inventory.domain.allowance.model import Allowance
from services.inventory.domain.stock.domain import StockDomain
from services.inventory.domain.stock.model import StockItem
from services.inventory.processors import codec
from shared_kernel import topics


class StockDecider(Decider[StockItem]):
    """The decider of stock items. Its view also lists them: a shop has thousands at most."""

    def items(self, partitions: Collection[int] | None = None) -> list[Aggregate[StockItem]]:
        """The created stock items of `partitions`, or of all. Raises NotReady unless this process has all of them."""
        found: dict[str, Aggregate[StockItem]] = {}
        for state in self._all_owned(partitions):
            store: Any = state.states  # a RocksDBStore, because the decider has a codec
            for key in store.all_keys():
                aggregate = found.get(key) or store.peek(key)
                if aggregate is not None and aggregate.state.revision:
                    found[key] = aggregate
        return list(found.values())


def stock_decider(connection: Connection, observer: DecisionObserver | None = None) -> StockDecider:
    """The decider of stock items."""
    return StockDecider(
        topics.INVENTORY_STOCK_DECIDER,
        topics.STOCK_INBOX,
        topics.STOCK_LOG,
        StockDomain(),
        connection,
        codec.STOCK,
        observer=observer,
    )


def allowance_decider(connection: Connection) -> Decider[Allowance]:
    """The decider of allowances."""
    return Decider(
        topics.INVENTORY_ALLOWANCE_DECIDER,
        topics.ALLOWANCE_INBOX,
        topics.ALLOWANCE_LOG,
        AllowanceDomain(),
        connection,
        codec.ALLOWANCE,
    )
