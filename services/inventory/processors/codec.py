"""Encoding of stock items and allowances in the state directory."""

from __future__ import annotations

from eventlog.records.codec import Codec
from services.inventory.domain.allowance.model import Allowance
from services.inventory.domain.stock.model import StockItem

#: The stamps change with the format of kept states; a new stamp makes the first start refold the log.
STOCK: Codec[StockItem] = Codec.of("stock-1", StockItem)
ALLOWANCE: Codec[Allowance] = Codec.of("allowance-1", Allowance)
