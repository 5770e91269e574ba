"""The index of the order projection: the list of a customer's orders, the newest first, and the group of each order.

Facts and group decisions both add orders: retention deletes facts after 90 days and keeps decisions. Both kinds of rows
share their names, so a customer may be called like an order: the place of a row tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from eventlog.state.projection_index import Index
from services.orders.domain.model import GroupOrders

#: Sort keys count down from here, so that the newest order comes first.
_LAST = 1 << 63
#: Place of the row that has the group of an order. It sorts before every place in a list, which has 8 bytes and more.
_GROUP = b"\0"

#: Rows (place, value) of a name after a place, at most a number of them.
Page = Callable[[str, bytes, int], Sequence[tuple[bytes, bytes]]]


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
    """Adds the unlisted orders of a group to the index, or moves them to their new time in the list."""
    for name in state.unlisted:
        order = state.orders[name]
        if order.created_ms == order.listed_ms:
            continue
        if order.listed_ms:
            index.delete(order.customer, index_key((-order.listed_ms, name)))
        index.put(order.customer, index_key((-order.created_ms, name)), state.group.encode())
        index.put(name, _GROUP, state.group.encode())
        order.listed_ms = order.created_ms
    state.unlisted = ()


def customers_page(page: Page, customer: str, after: tuple[int, str] | None, limit: int) -> list[ListEntry]:
    """At most `limit` entries of a customer's list after a sort key."""
    # All places in the list come after the row of an order's group.
    rows = page(customer, _GROUP if after is None else index_key(after), limit)
    return [parse_row(row) for row in rows]


def group_of_order(page: Page, order: str) -> str:
    """Id of the group of an order, or empty."""
    for place, group in page(order, b"", 1):
        if place == _GROUP:
            return group.decode()
    return ""


def parse_row(row: tuple[bytes, bytes]) -> ListEntry:
    """The entry of an index row."""
    where, group = row
    return ListEntry(_LAST - int.from_bytes(where[:8], "big"), where[8:].decode(), group.decode())
