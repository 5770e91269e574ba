"""Recently placed requests, to refuse a request id that a customer uses for a second order.

Ids of orders are derived from the group, too, so the same request id in another group names another order. This process
knows the orders that it has placed or seen recently; an older reuse is not noticed.
"""

from __future__ import annotations

from collections import OrderedDict

from services.orders.api.errors import request_id_reused
from services.orders.api.placing.parsed_order import ParsedOrder
from services.orders.domain.ids import OrderName

#: Remembered requests, about 15 MB. The oldest one is evicted.
MAX_REQUESTS = 50_000


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


def _key(parsed: ParsedOrder) -> tuple[str, str]:
    return parsed.request.customer, parsed.request.request_id
