"""Interfaces that the orders API needs from the rest of the process. app.py and tests supply implementations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eventlog.core.errors import BrokerUnavailable
from eventlog.producing.publisher import RecordPublisher
from eventlog.producing.record_accumulator import Position, Record
from eventlog.views.view import View
from services.orders.domain.model import GroupOrders
from services.orders.processors.customers import ListEntry


class OrdersView(View[GroupOrders], Protocol):
    """The order projection, by group."""

    def position(self, topic: str, partition: int, /) -> int:
        """Next offset that the fold of a topic's partition reads. `notifier` reports its changes under the key
        eventlog.processors.projection.position_key."""
        ...

    async def end(self, topic: str, partition: int, /) -> int:
        """Current end of a topic's partition at the broker. Raises KafkaError and OSError."""
        ...

    def group_of(self, order: str, partition: int, /) -> str:
        """Id of the group of an order in a partition; empty if the partition does not have the order. Raises
        NotReady."""
        ...

    def of_customer(
        self, customer: str, partition: int, after: tuple[int, str] | None, limit: int, /
    ) -> Sequence[ListEntry]:
        """At most `limit` of a customer's orders in a partition, by their sort keys. Raises NotReady."""
        ...


class PublishesAll(RecordPublisher, Protocol):
    """Appends one record or many. eventlog.producing.publisher.Publisher implements it."""

    partitions: int

    async def publish_all(
        self, topic: str, records: Sequence[Record], *, timeout_s: float | None = None
    ) -> list[Position | BrokerUnavailable]:
        """Appends records together. Returns for each its position or the error."""
        ...
