"""Interfaces that the inventory API needs from the rest of the process. app.py and tests supply implementations."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from eventlog.core.aggregate import Aggregate
from eventlog.views.view import View
from services.inventory.domain.allowance.model import Allowance
from services.inventory.domain.stock.model import StockItem


class StocksView(View[Aggregate[StockItem]], Protocol):
    """The stock decider's view."""

    def items(self, partitions: Collection[int] | None, /) -> Sequence[Aggregate[StockItem]]:
        """The created stock items of `partitions`, or of all. Raises NotReady unless this process has all of them."""
        ...


class AllowancesView(View[Aggregate[Allowance]], Protocol):
    """The allowance decider's view."""
