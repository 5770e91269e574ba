"""Reads the order projection for calls, and waits for records that it has not folded yet.

A call sees every record that this process appended before it, also without a consistency token. All answers come from
the projection.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import nsmallest
from itertools import count
from typing import NamedTuple

from groupbuy.orders.v1.orders_pb2 import ORDER_STATE_WAITLISTED, Order

from chassis.routing.partition_router import Partitions
from chassis.rpc.streaming.call_deadline import CallDeadline
from chassis.rpc.validation import invalid_field
from eventlog.core.errors import NotReady
from eventlog.core.partitioner import partition_of
from eventlog.producing.record_accumulator import Position
from eventlog.runtime.time_slice import TimeSlice
from eventlog.views.change_notifier import ChangeNotifier
from services.orders.api.errors import answer_pending, list_pending, order_not_found
from services.orders.api.mapping import order_message, show
from services.orders.api.ports import OrdersView, PublishesAll
from services.orders.api.positions import Positions
from services.orders.api.wait import ViewWaiter
from services.orders.domain.ids import OrderName
from services.orders.domain.model import GroupOrders, OrderView
from services.orders.processors.customers import ListEntry
from shared_kernel.consistency_tokens import Token, decode, encode
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_LOG

#: Seconds to wait for a group that was just opened.
OPENED_WITHIN_S = 1.0


class OrderSnapshot(NamedTuple):
    """An order of the projection. Valid until the next await."""

    name: OrderName
    group: GroupOrders
    view: OrderView

    @property
    def decided(self) -> bool:
        """Whether the group has decided: the order has a seat, is in the waitlist, or is final.

        An order that waits for its pieces alone is not decided: it is seated or refused once the stock item answers.
        """
        waits = self.group.waits_for_pieces and self.view.seat_state == ORDER_STATE_WAITLISTED
        return self.view.decided and not waits

    def message(self) -> Order:
        """The message for the API."""
        return order_message(self.name, self.group, self.view)

    def show(self, message: Order) -> None:
        """Fills in an empty message for the API."""
        show(message, self.name, self.group, self.view)


class Reader:
    """Reads of the projection for calls."""

    def __init__(self, view: OrdersView, publisher: PublishesAll) -> None:
        self._view = view
        self._publisher = publisher
        self._waiter = ViewWaiter(view.notifier)
        self._positions = Positions(view, self._waiter)
        #: Partition -> offset of the last order fact that this process appended.
        self._written: dict[int, int] = {}
        #: A key of each partition; empty until the number of partitions is known.
        self._keys: list[str] = []

    @property
    def notifier(self) -> ChangeNotifier:
        """Change notifier of the groups."""
        return self._view.notifier

    def mark_written(self, position: Position) -> None:
        """Call it once the log has a fact of this process."""
        if position.offset > self._written.get(position.partition, -1):
            self._written[position.partition] = position.offset

    def has_folded_own(self, group: str) -> bool:
        """Whether all facts that this process appended to a group's partition are folded. Raises NotReady."""
        partition = self.partition(group)
        return self._view.position(ORDERS.name, partition) > self._written.get(partition, -1)

    def find(self, name: OrderName) -> OrderSnapshot | None:
        """The current order, or None if it is not known. Raises NotReady."""
        group = self._view.get(name.group)
        view = group.find(name.order) if group else None
        return None if group is None or view is None else OrderSnapshot(name, group, view)

    def find_by_id(self, order: str, partitions: Partitions = None) -> OrderSnapshot | None:
        """An order by its id alone, in `partitions` or in all. Raises NotReady unless this process has all of these."""
        found = None
        for partition, _ in self._sample_keys(partitions):
            group = self._view.group_of(order, partition)
            if group:
                found = self.find(OrderName(group, order))
        return found

    def current_token(self, name: OrderName) -> Token:
        """A token that needs no wait: the projection's position in the order's partition."""
        partition = self.partition(name.group)
        return Token(partition, max(self._view.position(ORDERS.name, partition) - 1, 0))

    def partition(self, group: str) -> int:
        """Partition of a group. Raises NotReady until the number of partitions is known."""
        if not self._publisher.partitions:
            raise NotReady("the number of partitions is not known yet")
        return partition_of(group, self._publisher.partitions)

    def group(self, group: str) -> GroupOrders | None:
        """All orders of a group, or None if it has no records. Raises NotReady."""
        return self._view.get(group)

    async def of_customer(
        self, customer: str, after: tuple[int, str] | None, limit: int, partitions: Partitions = None
    ) -> list[Order]:
        """At most `limit` orders of a customer, the newest first, from `partitions` or from all.

        Raises NotReady unless this process has all of these partitions for the whole read.
        """
        numbers = [number for number, _ in self._sample_keys(partitions)]
        found: list[Order] = []
        slices = TimeSlice()
        while len(found) < limit:
            size = limit - len(found)
            rows = (row for number in numbers for row in self._view.of_customer(customer, number, after, size))
            page = nsmallest(size, rows, key=_by_key)
            for row in page:
                snapshot = self.find(OrderName(row.group, row.order))
                # An order whose fact was read late has moved and is found at its new place.
                listed_here = (customer, row.created_ms)
                if snapshot is not None and (snapshot.view.customer, snapshot.view.created_ms) == listed_here:
                    found.append(snapshot.message())
                if slices.expired():
                    await slices.yield_to_loop()
            if len(page) < size:
                break
            after = page[-1].key
        return found

    def newest_of_customer(self, customer: str, limit: int, partitions: Partitions = None) -> list[OrderName]:
        """At most `limit` orders of a customer, the newest first, from `partitions` or from all, as far as they are
        folded. Raises NotReady unless this process has all of these partitions."""
        numbers = range(self._publisher.partitions) if partitions is None else partitions
        if not numbers:
            raise NotReady("the number of partitions is not known yet")
        rows = [row for number in numbers for row in self._view.of_customer(customer, number, None, limit)]
        return [OrderName(row.group, row.order) for row in nsmallest(limit, rows, key=_by_key)] if rows else []

    async def group_caught_up(self, group: str, token: Token | None, deadline: CallDeadline) -> None:
        """Waits until the group's partition is folded past the records of this process and past the token.

        Raises ApiError ANSWER_PENDING.
        """
        offset = self._written.get(self.partition(group), -1)
        await self._wait_list_folded(group, max(offset, token.offset if token else -1), token, deadline)

    async def all_caught_up(self, token: Token | None, deadline: CallDeadline, partitions: Partitions = None) -> None:
        """As group_caught_up, for `partitions` or all. Raises NotReady unless this process has all of them."""
        for partition, key in self._sample_keys(partitions):
            offset = self._written.get(partition, -1)
            if token is not None and token.partition == partition:
                offset = max(offset, token.offset)
            decided = token if token is not None and token.group and self.partition(token.group) == partition else None
            await self._wait_list_folded(key, offset, decided, deadline)

    async def _wait_list_folded(self, key: str, offset: int, token: Token | None, deadline: CallDeadline) -> None:
        try:
            await self._wait_folded(key, offset, deadline)
            if token is not None:
                await self._wait_decided(token, deadline)
        except TimeoutError:
            raise list_pending() from None

    def _sample_keys(self, partitions: Partitions) -> list[tuple[int, str]]:
        """Partitions with one key of each."""
        if len(self._keys) != self._publisher.partitions or not self._keys:
            self._keys = key_of_each_partition(self._publisher.partitions)
        return [(number, key) for number, key in enumerate(self._keys) if partitions is None or number in partitions]

    async def require(self, name: OrderName, deadline: CallDeadline) -> OrderSnapshot:
        """The order, after the records of this process. Raises ApiError ORDER_NOT_FOUND."""
        await self._wait_order_folded(name, self._written.get(self.partition(name.group), -1), deadline)
        found = self.find(name)
        if found is None:
            raise order_not_found(name)
        return found

    def parse_token(self, text: str, group: str = "") -> Token:
        """Decodes a consistency token, which has to name the group's partition and no other group if a group is given.
        Raises ApiError INVALID_FIELDS."""
        try:
            token = decode(text)
        except ValueError as error:
            raise invalid_field("consistency_token", str(error)) from None
        if token.partition >= self._publisher.partitions or (
            group and (token.partition not in (-1, self.partition(group)) or token.group not in ("", group))
        ):
            raise invalid_field("consistency_token", "belongs to another order")
        return token

    async def wait_for_token(self, name: OrderName, token: Token, deadline: CallDeadline) -> None:
        """Waits until all that the token names is folded. Raises ApiError ANSWER_PENDING."""
        await self._wait_order_folded(name, token.offset, deadline)
        try:
            await self._wait_decided(token, deadline)
        except TimeoutError:
            raise answer_pending(name) from None

    async def _wait_order_folded(self, name: OrderName, offset: int, deadline: CallDeadline) -> None:
        try:
            await self._wait_folded(name.group, offset, deadline)
        except TimeoutError:
            raise answer_pending(name) from None

    async def _wait_decided(self, token: Token, deadline: CallDeadline) -> None:
        """Waits until the decisions that the token names are folded. Raises as Positions.wait_until_decided."""
        for log, version in ((GROUP_LOG.name, token.group_version), (PAYMENT_LOG.name, token.payments_version)):
            if version:
                partition = self.partition(token.group)
                await self._positions.wait_until_decided(token.group, partition, log, version, deadline)

    async def _wait_folded(self, key: str, offset: int, deadline: CallDeadline) -> None:
        """Waits until the key's partition is folded past an offset. Raises as Positions.wait_until_folded."""
        partition = self.partition(key)
        ours = offset <= self._written.get(partition, -1)
        await self._positions.wait_until_folded(key, partition, offset, deadline, ours=ours)

    def find_opened(self, group: str) -> GroupOrders | None:
        """The group, if it is known to be opened. Raises NotReady."""
        found = self._view.get(group)
        return found if found is not None and found.opener else None

    async def wait_opened(self, group: str, deadline: CallDeadline) -> GroupOrders | None:
        """The group once it is opened, or None if that takes more than a second."""
        try:
            return await self._waiter.until(group, lambda: self.find_opened(group), deadline.left_s(OPENED_WITHIN_S))
        except TimeoutError:
            return None

    async def wait_until(
        self,
        name: OrderName,
        ready: Callable[[OrderSnapshot], bool],
        deadline: CallDeadline,
        token: Token | Position | None = None,
    ) -> OrderSnapshot:
        """The order once a condition holds. Raises ApiError ANSWER_PENDING shortly before the deadline."""

        def check() -> OrderSnapshot | None:
            found = self.find(name)
            return found if found is not None and ready(found) else None

        try:
            return await self._waiter.until(name.group, check, deadline.left_s())
        except TimeoutError:
            raise answer_pending(name, encode(token) if token else "") from None


def _by_key(row: ListEntry) -> tuple[int, str]:
    return row.key


def key_of_each_partition(partitions: int) -> list[str]:
    """One key for each partition, by partition. Raises NotReady if the number of partitions is not known."""
    if not partitions:
        raise NotReady("the number of partitions is not known yet")
    found: dict[int, str] = {}
    numbers = count()
    while len(found) < partitions:
        key = f"probe-{next(numbers)}"
        found.setdefault(partition_of(key, partitions), key)
    return [found[partition] for partition in range(partitions)]
