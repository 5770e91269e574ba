"""What the orders API needs of the rest of the process. The wiring gives it; tests give their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from groupbuy.groups.v1.campaigns_pb2 import Campaign

from eventlog.publisher import Position
from eventlog.view import View
from services.orders.domain.orders import GroupOrders


class Campaigns(Protocol):
    """Campaigns by id, as the campaigns' topic has them."""

    def find(self, key: str, /) -> Campaign | None:
        """A campaign as far as the topic has been read."""
        ...

    async def find_fresh(self, key: str, /) -> Campaign | None:
        """A campaign; None only when the topic, read to its present end, has none. Raises BrokerUnavailable."""
        ...


class OrdersView(View[GroupOrders], Protocol):
    """The order projection, by group."""

    def position(self, topic: str, partition: int, /) -> int:
        """Offset of a topic's partition that is folded next."""
        ...


class Publishes(Protocol):
    """Appends records; eventlog.publisher.Publisher is one."""

    partitions: int

    async def publish(
        self,
        topic: str,
        key: str,
        value: bytes,
        headers: Sequence[tuple[str, bytes]],
        *,
        timeout_s: float | None = None,
    ) -> Position:
        """Appends one record and returns where it stands. Raises BrokerUnavailable."""
        ...
