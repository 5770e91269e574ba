"""Lists orders: of one group, by their ids; of one customer, the newest first.

Both orders are of what never changes about an order, so an order that is there throughout is listed exactly once,
whatever happens meanwhile. Must never answer with a part of what was asked for.
"""

from __future__ import annotations

from groupbuy.orders.v1.orders_pb2 import ListOrdersRequest, ListOrdersResponse

from chassis.paging import Key, Page, Paging, page_size
from chassis.waiting import Patience
from services.orders.api.reading import Reader, Seen
from services.orders.api.refusals import group_not_found, invalid_field
from services.orders.domain.ids import OrderName, group_of, is_id

DEFAULT_SIZE = 50
MOST = 500
#: Instead of a group: all of them.
ANY = "-"


class Listing:
    """Pages of orders, read from the projection."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(self, request: ListOrdersRequest, patience: Patience) -> ListOrdersResponse:
        """The page asked for. Raises ApiError GROUP_NOT_FOUND and INVALID_FIELDS, and NotReady."""
        group = group_of(request.parent)
        found = await (self._of_customer(request, patience) if group == ANY else self._of_group(request, patience))
        orders = [seen.message() for seen in found.items]
        return ListOrdersResponse(orders=orders, next_page_token=found.next_token)

    async def _of_group(self, request: ListOrdersRequest, patience: Patience) -> Page[Seen]:
        group = group_of(request.parent)
        if not is_id(group):
            raise invalid_field("parent", "is not the name of a group")
        paging = _paging(request, (str,))
        token = self._reader.token(request.token, group) if request.token else None
        await self._reader.group_caught_up(group, token, patience)
        state = self._reader.group(group)
        if state is None:
            raise group_not_found(group)
        orders = (
            Seen(OrderName(group, order), state, view)
            for order, view in state.orders.items()
            if view.known and request.customer in ("", view.customer)
        )
        return paging.of(orders, _by_id)

    async def _of_customer(self, request: ListOrdersRequest, patience: Patience) -> Page[Seen]:
        paging = _paging(request, (int, str))
        token = self._reader.token(request.token) if request.token else None
        await self._reader.all_caught_up(token, patience)
        return paging.of(self._reader.of_customer(request.customer), _newest_first)


def _paging(request: ListOrdersRequest, kinds: tuple[type[int] | type[str], ...]) -> Paging:
    size = page_size(request.page_size, default=DEFAULT_SIZE, most=MOST)
    return Paging(f"orders/{request.parent}/{request.customer}", kinds, size, request.page_token)


def _by_id(seen: Seen) -> Key:
    return (seen.name.order,)


def _newest_first(seen: Seen) -> Key:
    return (-seen.view.created_ms, seen.name.order)
