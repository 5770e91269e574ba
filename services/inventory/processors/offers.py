"""Copies the offer of a stock item to the compacted topic of offers, which every orders process reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError
from groupbuy.inventory.v1.decisions_pb2 import StockDecision
from groupbuy.inventory.v1.offers_pb2 import StockOffer

from eventlog.core.route_mapper import Routed, RouteMapper, RouteMappers
from shared_kernel import topics


class OfferRoutes(RouteMappers):
    """The mappers of the router of offers. The key does not change; the topic does."""

    def for_partition(self, topic: str, partition: int) -> RouteMapper:
        """See RouteMappers."""
        return OfferMapper()


class OfferMapper(RouteMapper):
    """Decisions of stock items to offers. Readers recognise a repeat by its version."""

    def decode(self, value: bytes, /) -> StockDecision:
        """See RouteMapper."""
        return StockDecision.FromString(value)

    def routes(self, record: Any) -> Sequence[Routed]:
        """The offer, if the decision changes it."""
        decision = StockDecision.FromString(record.value)
        self.decision = decision
        if decision.stock.encode() != record.key:
            raise DecodeError(f"a StockDecision of stock {decision.stock!r} under the key {record.key!r}")
        changed = None
        for event in decision.events[:]:
            body = event.WhichOneof("body")
            if body is None:
                raise DecodeError("the StockEvent has no body that this build knows")
            if body == "offer_changed":
                changed = event.offer_changed
        if changed is None:
            return ()
        offer = StockOffer(
            stock=decision.stock,
            state=changed.state,
            free=changed.free,
            total=changed.total,
            version=decision.version,
            time_ms=decision.time_ms,
        )
        return (Routed(topics.OFFERS.name, decision.stock, offer.SerializeToString()),)
