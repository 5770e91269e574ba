"""Reads the order projection on behalf of a call, and waits for what it does not show yet.

What this process has been told is written is seen by every later call to it, without a token. Must never answer from
anything but the projection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from groupbuy.orders.v1.orders_pb2 import Order

from chassis.topics import ORDERS
from chassis.waiting import Patience, until
from eventlog.errors import NotReady
from eventlog.topics import partition_of
from eventlog.watch import Watchers
from services.orders.api.ports import OrdersView, Publishes
from services.orders.api.refusals import answer_pending, order_not_found
from services.orders.api.render import order_message
from services.orders.api.tokens import Token, encode
from services.orders.domain.ids import OrderName
from services.orders.domain.orders import GroupOrders
from services.orders.domain.view import OrderView

#: Seconds after which a position is looked at again: records of other keys move it without waking us.
LOOK_AGAIN_S = 0.02
#: Seconds that a freshly opened group may take to be seen.
APPEAR_S = 1.0


class Seen(NamedTuple):
    """An order as the projection has it at one moment. Valid until the next await."""

    name: OrderName
    group: GroupOrders
    view: OrderView

    def message(self) -> Order:
        """What the caller is shown."""
        return order_message(self.name, self.group, self.view)


class Reader:
    """The projection, as seen by calls."""

    def __init__(self, view: OrdersView, publisher: Publishes) -> None:
        self._view = view
        self._publisher = publisher
        #: Partition -> offset of the last order fact that this process wrote there.
        self._written: dict[int, int] = {}

    @property
    def watchers(self) -> Watchers:
        """Wakes who waits for a group."""
        return self._view.watchers

    def wrote(self, token: Token) -> None:
        """Notes that a fact is in the log."""
        self._written[token.partition] = max(token.offset, self._written.get(token.partition, -1))

    def find(self, name: OrderName) -> Seen | None:
        """The order as it is now, None if it is not known. Raises NotReady."""
        group = self._view.get(name.group)
        view = group.find(name.order) if group else None
        return None if group is None or view is None else Seen(name, group, view)

    def here(self, name: OrderName) -> Token:
        """A token that is already passed: where the projection stands in the order's partition."""
        partition = self.partition(name.group)
        return Token(partition, max(self._view.position(ORDERS.name, partition) - 1, 0))

    def partition(self, group: str) -> int:
        """Partition of all that concerns a group. Raises NotReady before the broker has been met."""
        if not self._publisher.partitions:
            raise NotReady("the number of partitions is not known yet")
        return partition_of(group, self._publisher.partitions)

    async def require(self, name: OrderName, patience: Patience) -> Seen:
        """The order, after what this process wrote. Raises ApiError ORDER_NOT_FOUND."""
        await self._passed(name, self._written.get(self.partition(name.group), -1), patience)
        found = self.find(name)
        if found is None:
            raise order_not_found(name)
        return found

    async def passed(self, name: OrderName, token: Token, patience: Patience) -> None:
        """Returns once the projection has folded the token's record. Raises ApiError ANSWER_PENDING."""
        await self._passed(name, token.offset, patience)

    async def _passed(self, name: OrderName, offset: int, patience: Patience) -> None:
        partition = self.partition(name.group)

        def look() -> bool | None:
            self._view.get(name.group)  # Raises NotReady as soon as the partition is not ours.
            return True if self._view.position(ORDERS.name, partition) > offset else None

        try:
            await until(self._view.watchers, name.group, look, patience.left_s(), again_s=LOOK_AGAIN_S)
        except TimeoutError:
            raise answer_pending(name) from None

    async def opened(self, group: str, patience: Patience) -> GroupOrders | None:
        """A group that somebody has opened, None where that is not seen within a moment."""

        def look() -> GroupOrders | None:
            found = self._view.get(group)
            return found if found is not None and found.opener else None

        try:
            return await until(self._view.watchers, group, look, patience.left_s(APPEAR_S))
        except TimeoutError:
            return None

    async def when(
        self, name: OrderName, ready: Callable[[OrderView], bool], patience: Patience, token: Token | None = None
    ) -> Seen:
        """The order once it is so. Raises ApiError ANSWER_PENDING shortly before the deadline."""

        def look() -> Seen | None:
            found = self.find(name)
            return found if found is not None and ready(found.view) else None

        try:
            return await until(self._view.watchers, name.group, look, patience.left_s())
        except TimeoutError:
            raise answer_pending(name, encode(token) if token else "") from None
