"""What the orders API needs of the rest of the process. The wiring gives it; tests give their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from groupbuy.groups.v1.campaigns_pb2 import Campaign

from eventlog.core.errors import BrokerUnavailable
from eventlog.producing.publisher import Publishes
from eventlog.producing.record_accumulator import Position, Record
from eventlog.views.view import View
from services.orders.domain.model import GroupOrders
from services.orders.processors.customers import Listed


class Campaigns(Protocol):
    """Campaigns by id, as the campaigns' topic has them."""

    def find(self, key: str, /) -> Campaign | None:
        """A campaign as far as the topic has been read."""
        ...

    async def get_latest(self, key: str, /) -> Campaign | None:
        """A campaign; None only when the topic, read to its present end, has none. Raises BrokerUnavailable."""
        ...


class OrdersView(View[GroupOrders], Protocol):
    """The order projection, by group."""

    def position(self, topic: str, partition: int, /) -> int:
        """Offset of a topic's partition that is folded next. `watchers` tell of its changes under the key
        eventlog.processors.projection.position_key."""
        ...

    async def end(self, topic: str, partition: int, /) -> int:
        """End of a topic's partition, as the broker has it now. Raises KafkaError, OSError."""
        ...

    def of_customer(
        self, customer: str, partition: int, after: tuple[int, str] | None, most: int, /
    ) -> Sequence[Listed]:
        """At most so many of a customer's orders in a partition, in the order of their keys. Raises NotReady."""
        ...


class PublishesAll(Publishes, Protocol):
    """Appends records, also many at once; eventlog.producing.publisher.Publisher is one."""

    partitions: int

    async def publish_all(
        self, topic: str, records: Sequence[Record], *, timeout_s: float | None = None
    ) -> list[Position | BrokerUnavailable]:
        """Appends many records at once, and says of each where it stands or that it was not acknowledged."""
        ...
