"""The inventory service without Kafka: real deciders in memory, with leases of a stock item and a customer's orders."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from groupbuy.inventory.v1 import stocks_pb2 as s
from groupbuy.inventory.v1 import stocks_pb2_grpc

from tests.unit.inventory.items import asks, create, units
from tests.unit.inventory_api.world import World

REQUEST, OTHER = "5b0d5b53-92a1-4b39-8d5c-d1d2d5b8f3a1", "5b0d5b53-92a1-4b39-8d5c-d1d2d5b8f3a2"
GROUPS = tuple(f"0b6a0c2e-0f54-5a4e-9a59-{number:012x}" for number in range(3))


class InventoryWorld:
    """Two stock items, three groups with leases of one of them, and the allowance of one customer."""

    def __init__(self, directory: Path) -> None:
        self._world = World()
        self.servicers = ((stocks_pb2_grpc.add_StockServiceServicer_to_server, self._world.servicer),)
        self.known: Mapping[str, Sequence[str]] = {
            "name": ["stocks/drop", "stocks/pot"],
            "campaign": ["campaigns/mug"],
            "customer": ["ann", "bob"],
            "stock_id": ["drop", "new", ""],
            "request_id": [REQUEST, OTHER],
            "paths": ["display_name", "total", "lease_divisor", "*", "name", "free"],
            "etag": [""],
        }
        named = s.Stock(name="stocks/drop", display_name="Drop", total=900, lease_divisor=2)
        self.good: Sequence[Message] = (
            s.CreateStockRequest(stock=s.Stock(display_name="New", total=10), stock_id="new", request_id=REQUEST),
            s.CreateStockRequest(stock=s.Stock(total=10), request_id=OTHER),
            s.UpdateStockRequest(stock=named, update_mask=FieldMask(paths=["total"]), request_id=REQUEST),
            s.UpdateStockRequest(stock=named, request_id=OTHER),
            s.ArchiveStockRequest(name="stocks/pot", request_id=REQUEST),
            s.GetStockRequest(name="stocks/drop"),
            s.ListStocksRequest(page_size=1),
            s.WatchStockRequest(name="stocks/drop"),
            s.ListLeasesRequest(name="stocks/drop", page_size=1),
            s.GetAllowanceRequest(campaign="campaigns/mug", customer="ann"),
        )
        self.reset()

    def reset(self) -> None:
        """Replaces the history by a small one."""
        stocks, allowances = self._world.stocks, self._world.allowances
        stocks.aggregates.clear()
        stocks.published.clear()
        allowances.aggregates.clear()
        for key in ("drop", "pot"):
            stocks.put(key, create(1_000).SerializeToString())
        for cause, group in enumerate(GROUPS, 1):
            stocks.put("drop", units(group, cause=cause, at_least=1, at_most=5).SerializeToString())
        allowances.put("mug/ann", asks(GROUPS[0], "o1", cause=1).SerializeToString())

    def signed(self, data: bytes, chance: random.Random) -> bytes:
        """Returns the request: none needs a signature."""
        return data
