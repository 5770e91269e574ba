"""The list of a customer's orders: rows of the order projection's index, the newest first.

Facts and group decisions both add orders to the list: retention deletes facts after 90 days and keeps decisions.
"""

from __future__ import annotations

from typing import NamedTuple

from eventlog.state.projection_index import Index
from services.orders.domain.model import GroupOrders

#: Sort keys count down from here, so that the newest order comes first.
_LAST = 1 << 63


class ListEntry(NamedTuple):
    """An entry of the list. The order may have moved in the list since it was read."""

    created_ms: int
    order: str
    group: str

    @property
    def key(self) -> tuple[int, str]:
        """Sort key. It is equal on all replicas, and changes only when the order's fact is read after its decisions."""
        return -self.created_ms, self.order


def index_key(key: tuple[int, str]) -> bytes:
    """The index key of a sort key. Index keys sort as the sort keys do. A key from a page token fits in 64 bits."""
    return (_LAST + key[0]).to_bytes(8, "big") + key[1].encode()


def update_list(state: GroupOrders, index: Index) -> None:
    """Adds the unlisted orders of a group to the index, or moves them to their new time."""
    for name in state.unlisted:
        order = state.orders[name]
        if order.created_ms == order.listed_ms:
            continue
        if order.listed_ms:
            index.delete(order.customer, index_key((-order.listed_ms, name)))
        index.put(order.customer, index_key((-order.created_ms, name)), state.group.encode())
        order.listed_ms = order.created_ms
    state.unlisted = ()


def parse_row(row: tuple[bytes, bytes]) -> ListEntry:
    """The entry of an index row."""
    where, group = row
    return ListEntry(_LAST - int.from_bytes(where[:8], "big"), where[8:].decode(), group.decode())
