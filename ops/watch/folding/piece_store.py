"""Stock items and allowances of watch: those that changed in memory, all on disk.

Watch compares no single lease with the groups' logs, which other workers may read; it compares sums (totals.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec
from msgspec import Struct
from rocksdict import WriteBatch

from eventlog.records.packed import Packed
from eventlog.state.database import Database
from ops.audit.chain import Chain
from ops.audit.findings import Findings
from ops.audit.stock.allowances import AllowanceBooks, AllowanceFold
from ops.audit.stock.items import StockBooks, StockFold

#: Digests of a stock item's last decisions that are kept, to recognise a repeat that differs. A repeat of an older one
#: is not compared.
KEPT_DIGESTS = 1_024

_STOCK, _ALLOWANCE = b"k", b"a"


class _StockRow(Struct, array_like=True):
    chain: Chain
    books: StockBooks


class _AllowanceRow(Struct, array_like=True):
    chain: Chain
    books: AllowanceBooks


Row = TypeVar("Row")
_STOCKS: Packed[_StockRow] = Packed(_StockRow)
_ALLOWANCES: Packed[_AllowanceRow] = Packed(_AllowanceRow)


class PieceStore:
    """The folds by key. See PieceFolds."""

    def __init__(self, database: Database, findings: Findings) -> None:
        """Folds report their violations to `findings`."""
        self._database = database
        self._findings = findings
        self._stocks: dict[str, StockFold] = {}
        self._allowances: dict[str, AllowanceFold] = {}

    @property
    def changed(self) -> int:
        """Number of folds that the disk does not have yet."""
        return len(self._stocks) + len(self._allowances)

    def stock(self, key: str) -> StockFold:
        """See PieceFolds."""
        fold = self._stocks.get(key)
        if fold is None:
            fold = self._stocks[key] = StockFold(key, self._findings, tracks=False)
            row = self._database.get(_STOCK + key.encode())
            if row is not None:
                stored = self._decode(_STOCKS, row)
                fold.chain, fold.books = stored.chain, stored.books
        return fold

    def allowance(self, key: str) -> AllowanceFold:
        """See PieceFolds."""
        fold = self._allowances.get(key)
        if fold is None:
            fold = self._allowances[key] = AllowanceFold(key, self._findings)
            row = self._database.get(_ALLOWANCE + key.encode())
            if row is not None:
                stored = self._decode(_ALLOWANCES, row)
                fold.chain, fold.books = stored.chain, stored.books
        return fold

    def _decode(self, packed: Packed[Row], row: bytes) -> Row:
        try:
            return packed.decode(row)
        except msgspec.DecodeError as error:
            self._database.abort_damaged(error)

    def write_changed(self, batch: WriteBatch) -> Iterator[tuple[str, StockBooks]]:
        """Adds the rows of all changed folds to a batch. Yields the books of each changed stock item."""
        for key, stock in self._stocks.items():
            stock.chain.keep_last(KEPT_DIGESTS)
            batch.put(_STOCK + key.encode(), _STOCKS.encode(_StockRow(stock.chain, stock.books)))
            yield key, stock.books
        for key, allowance in self._allowances.items():
            batch.put(_ALLOWANCE + key.encode(), _ALLOWANCES.encode(_AllowanceRow(allowance.chain, allowance.books)))
        self._stocks.clear()
        self._allowances.clear()
