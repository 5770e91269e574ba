"""Which orders a customer has: an index beside the order projection, of the newest ones only.

What it names may be gone by the time it is looked up; what it does not name is older than what it names.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Orders of one customer that are known.
MOST = 1_000


class Customers:
    """Orders by customer."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._orders: dict[str, dict[str, str]] = {}

    def add(self, customer: str, order: str, group: str) -> None:
        """Notes an order. Where it is one too many, the one noted first is forgotten."""
        orders = self._orders.get(customer)
        if orders is None:
            self._orders[customer] = {order: group}
            return
        orders[order] = group
        if len(orders) > self._most:
            del orders[next(iter(orders))]

    def of(self, customer: str) -> Mapping[str, str]:
        """Group by order. Valid until the next await."""
        return self._orders.get(customer, {})

    def clear(self) -> None:
        """Forgets all."""
        self._orders.clear()
