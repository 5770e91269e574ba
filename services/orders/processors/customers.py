"""Which orders a customer has: rows of the order projection's index, the newest first.

An order is listed from its fact and from group decisions alike: retention takes the fact after 90 days, the decisions
stay.
"""

from __future__ import annotations

from typing import NamedTuple

from eventlog.state.projection_index import Index
from services.orders.domain.model import GroupOrders

#: The newest order comes first: places count down from here.
_LAST = 1 << 63


class Listed(NamedTuple):
    """An order in the list of its customer. The order itself may have moved in the list since."""

    created_ms: int
    order: str
    group: str

    @property
    def key(self) -> tuple[int, str]:
        """Sorts the list; the same on all replicas, and as long as the order's fact is not read for the first time."""
        return -self.created_ms, self.order


def place(key: tuple[int, str]) -> bytes:
    """Place of a sort key in the index; places sort as keys do. Keys of strangers are 64 bits wide."""
    return (_LAST + key[0]).to_bytes(8, "big") + key[1].encode()


def list_orders(state: GroupOrders, index: Index) -> None:
    """Lists the orders of a group that are not listed yet, or under another time."""
    for name in state.unlisted:
        order = state.orders[name]
        if order.created_ms == order.listed_ms:
            continue
        if order.listed_ms:
            index.delete(order.customer, place((-order.listed_ms, name)))
        index.put(order.customer, place((-order.created_ms, name)), state.group.encode())
        order.listed_ms = order.created_ms
    state.unlisted = ()


def listed(row: tuple[bytes, bytes]) -> Listed:
    """The order of an index row."""
    where, group = row
    return Listed(_LAST - int.from_bytes(where[:8], "big"), where[8:].decode(), group.decode())
