"""Recently placed requests, to refuse a request id that a customer uses for a second order.

Ids of orders are derived from the group, too, so the same request id in another group names another order. The newest
orders of the customer in the read model tell, on every replica and after a restart. What is not folded yet is known to
the process that has placed it. An older reuse is not noticed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from groupbuy.orders.v1.orders_pb2 import ListOrdersRequest, ListOrdersResponse

from eventlog.core.errors import NotReady
from services.orders.api.errors import request_id_reused
from services.orders.api.placing.parsed_order import ParsedOrder
from services.orders.domain.ids import OrderName, order_id, parse_order_name

#: Remembered requests, about 15 MB. The oldest one is evicted.
MAX_REQUESTS = 50_000
#: Orders of the customer in the read model that are compared.
NEWEST_ORDERS = 20
#: Time for the read model's answer. Without one the order is placed: replicas that are away stop no order.
LOOK_UP_S = 0.5

#: A page of orders from all replicas. Raises NotReady.
ListsOrders: TypeAlias = Callable[[ListOrdersRequest], Awaitable[ListOrdersResponse]]


class RecentRequests:
    """The orders of recent requests, by customer and request id."""

    def __init__(self, most: int = MAX_REQUESTS) -> None:
        self._most = most
        self._orders: OrderedDict[tuple[str, str], OrderName] = OrderedDict()

    def check(self, parsed: ParsedOrder) -> None:
        """Raises ApiError REQUEST_ID_REUSED if the customer has used the id for an order of another group."""
        known = self._orders.get(_key(parsed))
        if known is not None and known != parsed.name:
            raise request_id_reused(known)

    def remember(self, parsed: ParsedOrder) -> None:
        """Remembers an order that was placed."""
        key = _key(parsed)
        if key in self._orders:
            return
        self._orders[key] = parsed.name
        if len(self._orders) > self._most:
            self._orders.popitem(last=False)


async def check_placed(parsed: ParsedOrder, lists: ListsOrders) -> None:
    """Raises ApiError REQUEST_ID_REUSED if one of the customer's newest orders, of another group, has the request id.

    The id of an order is derived from its group, customer and request id, so no index of request ids is needed.
    """
    customer, request_id = parsed.request.customer, parsed.request.request_id
    wanted = ListOrdersRequest(parent="groups/-", customer=customer, page_size=NEWEST_ORDERS)
    try:
        async with asyncio.timeout(LOOK_UP_S):
            page = await lists(wanted)
    except (NotReady, TimeoutError):
        return
    for order in page.orders:
        name = parse_order_name(order.name)
        if name != parsed.name and name.order == order_id(name.group, customer, request_id):
            raise request_id_reused(name)


def _key(parsed: ParsedOrder) -> tuple[str, str]:
    return parsed.request.customer, parsed.request.request_id
