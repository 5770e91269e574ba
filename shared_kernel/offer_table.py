"""The topic of offers as a table, for services that refuse orders early when a stock item is sold out.

It is a hint: a record can be late, and a repeat of an older one can follow a newer one until the next change.
"""

from __future__ import annotations

from typing import Protocol

from groupbuy.inventory.v1.offers_pb2 import StockOffer

from eventlog.broker.security import Kafka
from eventlog.views.global_table import GlobalTable
from shared_kernel.topics import OFFERS


class FindsOffers(Protocol):
    """Offers by the id of the stock item."""

    def find(self, key: str, /) -> StockOffer | None:
        """The offer as it was read last; None: unknown."""
        ...


def mismatch(key: str, offer: StockOffer) -> str:
    """Why an offer does not belong under its key; empty if it does."""
    return "" if offer.stock == key else f"it is of stock {offer.stock!a}, not of its key"


def reader(kafka: Kafka, instance: str) -> GlobalTable[StockOffer]:
    """The offers by the id of the stock item. Start the table before the processors."""
    return GlobalTable(
        kafka, OFFERS.name, StockOffer.FromString, client_id=f"{instance}.offers", mismatch=mismatch, removable=False
    )
