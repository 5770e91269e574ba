"""Lists orders: of one group by id, of one customer the newest first.

The sort keys of an order do not change, so an order that exists from the first page to the last is listed exactly once.
A list is complete or NotReady.
"""

from __future__ import annotations

from typing import cast

from groupbuy.orders.v1.orders_pb2 import ListOrdersRequest, ListOrdersResponse, Order

from chassis.routing.partition_router import LocalRouter, Partitions
from chassis.routing.peer_calls import Context
from chassis.rpc.pagination import Key, Page, PageRequest, PageSize
from chassis.rpc.streaming.call_deadline import CallDeadline
from chassis.rpc.validation import invalid_field
from services.orders.api.reading import OrderSnapshot, Reader
from services.orders.domain.ids import OrderName, group_of, is_id
from shared_kernel.api_errors import group_not_found

PAGE_SIZE = PageSize(default=50, limit=500)
#: In place of a group: all groups.
ANY_GROUP = "-"


class Listing:
    """Handler of ListOrders."""

    def __init__(self, reader: Reader, replicas: LocalRouter) -> None:
        self._reader = reader
        self._replicas = replicas

    async def page(self, request: ListOrdersRequest, context: Context) -> ListOrdersResponse:
        """The requested page. Raises ApiError GROUP_NOT_FOUND and INVALID_FIELDS, and NotReady."""
        group = group_of(request.parent)
        if group != ANY_GROUP:
            if not is_id(group):
                raise invalid_field("parent", "is not the name of a group")

            async def of_group() -> ListOrdersResponse:
                return _response(await self._of_group(request, CallDeadline(context)))

            return await self._replicas.call_owner("ListOrders", group, request, context, of_group)

        async def of_customer(partitions: Partitions) -> ListOrdersResponse:
            page = await self._of_customer(request, CallDeadline(context), partitions)
            return ListOrdersResponse(orders=page.items, next_page_token=page.next_token)

        parts = await self._replicas.scatter_gather("ListOrders", request, context, of_customer)
        if len(parts) == 1:
            return parts[0]
        more = any(part.next_page_token for part in parts)
        orders = (order for part in parts for order in part.orders)
        page = _paging(request, (int, str)).merge(orders, _newest_order_first, more=more)
        return ListOrdersResponse(orders=page.items, next_page_token=page.next_token)

    async def _of_group(self, request: ListOrdersRequest, deadline: CallDeadline) -> Page[OrderSnapshot]:
        group = group_of(request.parent)
        paging = _paging(request, (str,))
        token = self._reader.parse_token(request.consistency_token, group) if request.consistency_token else None
        await self._reader.group_caught_up(group, token, deadline)
        state = self._reader.group(group)
        if state is None:
            raise group_not_found(group)
        orders = (
            OrderSnapshot(OrderName(group, order), state, view)
            for order, view in state.orders.items()
            if view.known and request.customer in ("", view.customer)
        )
        return paging.page_of(orders, _by_id)

    async def _of_customer(
        self, request: ListOrdersRequest, deadline: CallDeadline, partitions: Partitions
    ) -> Page[Order]:
        paging = _paging(request, (int, str))
        token = self._reader.parse_token(request.consistency_token) if request.consistency_token else None
        await self._reader.all_caught_up(token, deadline, partitions)
        after = cast("tuple[int, str] | None", paging.after)
        orders = await self._reader.of_customer(request.customer, after, paging.size + 1, partitions)
        return paging.page_of_sorted(orders, _newest_order_first)


def _response(page: Page[OrderSnapshot]) -> ListOrdersResponse:
    return ListOrdersResponse(orders=[snapshot.message() for snapshot in page.items], next_page_token=page.next_token)


def _paging(request: ListOrdersRequest, kinds: tuple[type[int] | type[str], ...]) -> PageRequest:
    size = PAGE_SIZE.of(request.page_size)
    return PageRequest(f"orders/{request.parent}/{request.customer}", kinds, size, request.page_token)


def _by_id(snapshot: OrderSnapshot) -> Key:
    return (snapshot.name.order,)


def _newest_order_first(order: Order) -> Key:
    return (-order.create_time.ToMilliseconds(), order.name.rsplit("/", 1)[1])
