"""Reads the order projection on behalf of a call, and waits for what it does not show yet.

What this process has been told is written is seen by every later call to it, without a token. Must never answer from
anything but the projection.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import nsmallest
from itertools import count
from typing import NamedTuple

from groupbuy.orders.v1.orders_pb2 import Order

from chassis.routing.partition_router import Partitions
from chassis.rpc.call_deadline import CallDeadline
from eventlog.core.errors import NotReady
from eventlog.core.partitioner import partition_of
from eventlog.processors.time_slice import TimeSlice
from eventlog.producing.record_accumulator import Position
from eventlog.views.change_notifier import ChangeNotifier
from services.orders.api.consistency_tokens import Token, decode, encode
from services.orders.api.errors import answer_pending, invalid_field, list_pending, order_not_found
from services.orders.api.mapping import order_message, show
from services.orders.api.ports import OrdersView, PublishesAll
from services.orders.api.positions import Positions
from services.orders.api.wait import Awaiting
from services.orders.domain.fold import OrderView
from services.orders.domain.ids import OrderName
from services.orders.domain.model import GroupOrders
from services.orders.processors.customers import Listed
from shared_kernel.topics import ORDERS

#: Seconds that a freshly opened group may take to be seen.
APPEAR_S = 1.0


class OrderSnapshot(NamedTuple):
    """An order as the projection has it at one moment. Valid until the next await."""

    name: OrderName
    group: GroupOrders
    view: OrderView

    def message(self) -> Order:
        """What the caller is shown."""
        return order_message(self.name, self.group, self.view)

    def show(self, made: Order) -> None:
        """Makes an empty message what the caller is shown."""
        show(made, self.name, self.group, self.view)


class Reader:
    """The projection, as seen by calls."""

    def __init__(self, view: OrdersView, publisher: PublishesAll) -> None:
        self._view = view
        self._publisher = publisher
        self._awaiting = Awaiting(view.watchers)
        self._positions = Positions(view, self._awaiting)
        #: Partition -> offset of the last order fact that this process wrote there.
        self._written: dict[int, int] = {}
        #: A key of each partition; empty: the number of partitions is not known yet.
        self._probes: list[str] = []

    @property
    def watchers(self) -> ChangeNotifier:
        """Wakes who waits for a group."""
        return self._view.watchers

    def wrote(self, position: Position) -> None:
        """Notes that a fact is in the log."""
        if position.offset > self._written.get(position.partition, -1):
            self._written[position.partition] = position.offset

    def find(self, name: OrderName) -> OrderSnapshot | None:
        """The order as it is now, None if it is not known. Raises NotReady."""
        group = self._view.get(name.group)
        view = group.find(name.order) if group else None
        return None if group is None or view is None else OrderSnapshot(name, group, view)

    def here(self, name: OrderName) -> Token:
        """A token that is already passed: where the projection stands in the order's partition."""
        partition = self.partition(name.group)
        return Token(partition, max(self._view.position(ORDERS.name, partition) - 1, 0))

    def partition(self, group: str) -> int:
        """Partition of all that concerns a group. Raises NotReady before the broker has been met."""
        if not self._publisher.partitions:
            raise NotReady("the number of partitions is not known yet")
        return partition_of(group, self._publisher.partitions)

    def group(self, group: str) -> GroupOrders | None:
        """All orders of a group, None if nothing was ever said about it. Raises NotReady."""
        return self._view.get(group)

    async def of_customer(
        self, customer: str, after: tuple[int, str] | None, most: int, partitions: Partitions = None
    ) -> list[Order]:
        """At most so many orders of a customer, the newest first, of some partitions or of all.

        Raises NotReady unless all of these are read here throughout.
        """
        numbers = [number for number, _ in self._probe(partitions)]
        found: list[Order] = []
        slices = TimeSlice()
        while len(found) < most:
            size = most - len(found)
            rows = (row for number in numbers for row in self._view.of_customer(customer, number, after, size))
            page = nsmallest(size, rows, key=_by_key)
            for row in page:
                seen = self.find(OrderName(row.group, row.order))
                # An order whose fact was read late has moved: it is found at its other place.
                if seen is not None and (seen.view.customer, seen.view.created_ms) == (customer, row.created_ms):
                    found.append(seen.message())
                if slices.expired():
                    await slices.yield_to_loop()
            if len(page) < size:
                break
            after = page[-1].key
        return found

    async def group_caught_up(self, group: str, token: Token | None, deadline: CallDeadline) -> None:
        """Returns once what this process wrote to the group's partition is seen, and what the token stands for.

        Raises ApiError ANSWER_PENDING.
        """
        offset = self._written.get(self.partition(group), -1)
        await self._list_passed(group, max(offset, token.offset if token else -1), deadline)

    async def all_caught_up(self, token: Token | None, deadline: CallDeadline, partitions: Partitions = None) -> None:
        """As group_caught_up, of some partitions or of all. Raises NotReady unless all of these are read here."""
        for partition, probe in self._probe(partitions):
            offset = self._written.get(partition, -1)
            if token is not None and token.partition == partition:
                offset = max(offset, token.offset)
            await self._list_passed(probe, offset, deadline)

    async def _list_passed(self, key: str, offset: int, deadline: CallDeadline) -> None:
        try:
            await self._reached(key, offset, deadline)
        except TimeoutError:
            raise list_pending() from None

    def _probe(self, partitions: Partitions) -> list[tuple[int, str]]:
        """Partitions, and a key of each."""
        if len(self._probes) != self._publisher.partitions or not self._probes:
            self._probes = one_of_each(self._publisher.partitions)
        return [one for one in enumerate(self._probes) if partitions is None or one[0] in partitions]

    async def require(self, name: OrderName, deadline: CallDeadline) -> OrderSnapshot:
        """The order, after what this process wrote. Raises ApiError ORDER_NOT_FOUND."""
        await self._passed(name, self._written.get(self.partition(name.group), -1), deadline)
        found = self.find(name)
        if found is None:
            raise order_not_found(name)
        return found

    def consistency_token(self, text: str, group: str = "") -> Token:
        """A token of PlaceOrder, about this group's partition where one is named. Raises ApiError INVALID_FIELDS."""
        try:
            token = decode(text)
        except ValueError as error:
            raise invalid_field("consistency_token", str(error)) from None
        if token.partition >= self._publisher.partitions or (group and token.partition != self.partition(group)):
            raise invalid_field("consistency_token", "is of another order")
        return token

    async def passed(self, name: OrderName, token: Token, deadline: CallDeadline) -> None:
        """Returns once the projection has folded the token's record. Raises ApiError ANSWER_PENDING."""
        await self._passed(name, token.offset, deadline)

    async def _passed(self, name: OrderName, offset: int, deadline: CallDeadline) -> None:
        try:
            await self._reached(name.group, offset, deadline)
        except TimeoutError:
            raise answer_pending(name) from None

    async def _reached(self, key: str, offset: int, deadline: CallDeadline) -> None:
        """Returns once the key's partition is folded past an offset. Raises TimeoutError, and as Positions.reached."""
        partition = self.partition(key)
        ours = offset <= self._written.get(partition, -1)
        await self._positions.reached(key, partition, offset, deadline, ours=ours)

    def opened_now(self, group: str) -> GroupOrders | None:
        """A group that somebody has opened, as far as is known now. Raises NotReady."""
        found = self._view.get(group)
        return found if found is not None and found.opener else None

    async def opened(self, group: str, deadline: CallDeadline) -> GroupOrders | None:
        """A group that somebody has opened, None where that is not seen within a moment."""

        try:
            return await self._awaiting.until(group, lambda: self.opened_now(group), deadline.left_s(APPEAR_S))
        except TimeoutError:
            return None

    async def when(
        self,
        name: OrderName,
        ready: Callable[[OrderView], bool],
        deadline: CallDeadline,
        token: Token | Position | None = None,
    ) -> OrderSnapshot:
        """The order once it is so. Raises ApiError ANSWER_PENDING shortly before the deadline."""

        def look() -> OrderSnapshot | None:
            found = self.find(name)
            return found if found is not None and ready(found.view) else None

        try:
            return await self._awaiting.until(name.group, look, deadline.left_s())
        except TimeoutError:
            raise answer_pending(name, encode(token) if token else "") from None


def _by_key(row: Listed) -> tuple[int, str]:
    return row.key


def one_of_each(partitions: int) -> list[str]:
    """A key of each partition, by partition: what is asked of all of them is asked of these. Raises NotReady where the
    number of partitions is not known."""
    if not partitions:
        raise NotReady("the number of partitions is not known yet")
    found: dict[int, str] = {}
    numbers = count()
    while len(found) < partitions:
        key = f"probe-{next(numbers)}"
        found.setdefault(partition_of(key, partitions), key)
    return [found[partition] for partition in range(partitions)]
