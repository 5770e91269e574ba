"""The topic of offers against the stock items' log, at the end of a history."""

from __future__ import annotations

from groupbuy.inventory.v1.decisions_pb2 import StockDecision
from groupbuy.inventory.v1.offers_pb2 import StockOffer

from shared_kernel import topics
from tests.simulation.audit.violation import Violation
from tests.simulation.world.broker import Broker, Record

#: Version, state, free pieces and total.
Offer = tuple[int, int, int, int]


def check_offers(broker: Broker) -> None:
    """The offer with the greatest version is the last one in the stock item's log. Raises Violation."""
    decided: dict[str, Offer] = {}
    for record in _records(broker, topics.STOCK_LOG.name):
        decision = StockDecision.FromString(record.value or b"")
        for event in decision.events:
            if event.HasField("offer_changed"):
                changed = event.offer_changed
                offer = decision.version, int(changed.state), changed.free, changed.total
                decided[decision.stock] = max(decided.get(decision.stock, offer), offer)
    offered: dict[str, Offer] = {}
    for record in _records(broker, topics.OFFERS.name):
        read = StockOffer.FromString(record.value or b"")
        offer = read.version, int(read.state), read.free, read.total
        offered[read.stock] = max(offered.get(read.stock, offer), offer)
    if decided != offered:
        raise Violation("offers are those of the stock items", "", f"decided {decided}, offered {offered}")


def _records(broker: Broker, topic: str) -> list[Record]:
    return [record for (name, _), log in broker.logs.items() if name == topic for record in log]
