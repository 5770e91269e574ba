"""Recently placed requests, to refuse a request id that a customer uses for a second order.

Ids of orders are derived from the group, too, so the same request id in another group names another order. The newest
orders of the customer in the read model tell, on every replica and after a restart. What is not folded yet is known to
the process that has placed it. An older reuse is not noticed.

A UUIDv7 has the time at which it was made. An id that is seconds old can't have an order that is older, so what this
process has placed is enough, and the read models are not asked.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

from groupbuy.orders.v1.orders_pb2 import ListOrdersRequest, ListOrdersResponse, Order

from chassis.routing.partition_router import LocalRouter, Partitions
from chassis.routing.peer_calls import Context
from eventlog.core.errors import NotReady
from services.orders.api.errors import request_id_reused
from services.orders.api.placing.parsed_order import ParsedOrder
from services.orders.api.reading import Reader
from services.orders.domain.ids import OrderName, order_id, parse_order_name

#: Remembered requests, about 15 MB. The oldest one is evicted.
MAX_REQUESTS = 50_000
#: Orders of the customer in the read model that are compared.
NEWEST_ORDERS = 20
#: Time for the read model's answer. Without one the order is placed: replicas that are away stop no order.
LOOK_UP_S = 0.5
#: Age of a UUIDv7, in milliseconds, up to which no older order can have it. The clocks of callers differ from ours.
FRESH_MS = 2_000


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


def is_fresh(request_id: str, now_ms: int) -> bool:
    """Whether a request id is a UUIDv7 that was made at most FRESH_MS ago. `now_ms` is since the epoch."""
    if request_id[14:15] != "7":
        return False
    made_ms = int(request_id[:8] + request_id[9:13], 16)
    return -FRESH_MS <= now_ms - made_ms <= FRESH_MS


async def check_placed(parsed: ParsedOrder, reader: Reader, replicas: LocalRouter, context: Context) -> None:
    """Raises ApiError REQUEST_ID_REUSED if one of the customer's newest orders, of another group, has the request id.

    Replicas that don't answer in time are left out: they stop no order.
    """
    customer = parsed.request.customer
    try:
        placed = reader.newest_of_customer(customer, NEWEST_ORDERS)
    except NotReady:
        _check(parsed, await _placed_elsewhere(customer, reader, replicas, context))
    else:
        _check(parsed, placed)


async def _placed_elsewhere(
    customer: str, reader: Reader, replicas: LocalRouter, context: Context
) -> Iterable[OrderName]:
    """The customer's newest orders on all replicas, or nothing if one of them is away."""

    async def here(partitions: Partitions) -> ListOrdersResponse:
        placed = reader.newest_of_customer(customer, NEWEST_ORDERS, partitions)
        return ListOrdersResponse(orders=[Order(name=str(name)) for name in placed])

    wanted = ListOrdersRequest(parent="groups/-", customer=customer, page_size=NEWEST_ORDERS)
    try:
        async with asyncio.timeout(LOOK_UP_S):
            parts = await replicas.scatter_gather("ListOrders", wanted, context, here)
    except (NotReady, TimeoutError):
        return ()
    return (parse_order_name(order.name) for part in parts for order in part.orders)


def _check(parsed: ParsedOrder, placed: Iterable[OrderName]) -> None:
    """The id of an order is derived from its group, customer and request id, so no index of request ids is needed."""
    customer, request_id = parsed.request.customer, parsed.request.request_id
    for name in placed:
        if name != parsed.name and name.order == order_id(name.group, customer, request_id):
            raise request_id_reused(name)


def _key(parsed: ParsedOrder) -> tuple[str, str]:
    return parsed.request.customer, parsed.request.request_id
