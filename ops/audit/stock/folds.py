"""The folds of all stock items and allowances, by key."""

from __future__ import annotations

from typing import Protocol

from ops.audit.findings import Findings
from ops.audit.stock.allowances import AllowanceFold
from ops.audit.stock.items import StockFold


class PieceFolds(Protocol):
    """Finds folds, which the caller then changes."""

    def stock(self, key: str, /) -> StockFold:
        """The fold of a stock item."""
        ...

    def allowance(self, key: str, /) -> AllowanceFold:
        """The fold of an allowance."""
        ...


class InMemoryFolds:
    """All folds in memory."""

    def __init__(self, findings: Findings) -> None:
        """`findings` receives the violations."""
        self.stocks: dict[str, StockFold] = {}
        self.allowances: dict[str, AllowanceFold] = {}
        self._findings = findings

    def stock(self, key: str) -> StockFold:
        """See PieceFolds."""
        found = self.stocks.get(key)
        if found is None:
            found = self.stocks[key] = StockFold(key, self._findings)
        return found

    def allowance(self, key: str) -> AllowanceFold:
        """See PieceFolds."""
        found = self.allowances.get(key)
        if found is None:
            found = self.allowances[key] = AllowanceFold(key, self._findings)
        return found
