"""Which group has pieces of a stock item, and why. Reads the folds of the audit, which imports no service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ops.audit.auditor import Auditor
from ops.audit.cases import Case
from ops.audit.group.membership import GroupState
from ops.audit.group.pieces import Supply
from ops.audit.group.seats import SeatState
from ops.audit.stock.items import StockFold


@dataclass(frozen=True, slots=True)
class StockRow:
    """One stock item, in pieces and groups."""

    stock: str
    offer: str
    total: int
    free: int
    leased: int
    sold: int
    #: Groups with pieces, and groups that wait in line.
    groups: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Holder:
    """One group with pieces of a stock item, or in its line."""

    group: str
    #: FORMING, COMPLETED, EXPIRED or CANCELLED; NONE if its log does not have it yet.
    state: str
    #: Pieces by the log of the stock item.
    units: int
    #: Of these by the group's log: in seats without a payment, in seats with one, being charged, and in no seat.
    reserved: int
    confirmed: int
    charging: int
    idle: int
    #: Pieces on the way to the group or back.
    on_the_way: int
    #: Pieces that it waits for in line.
    waits_for: int
    #: When a forming group closes at the latest, in milliseconds since the epoch; 0: it is closed.
    deadline_ms: int
    why: str

    def as_object(self) -> dict[str, Any]:
        """The row as JSON."""
        return asdict(self)


def stock_rows(stocks: Mapping[str, StockFold]) -> list[StockRow]:
    """All created stock items by name."""
    rows = []
    for key, fold in sorted(stocks.items()):
        books = fold.books
        if not books.created:
            continue
        offer = "ENDED" if books.archived else "LIVE" if books.free > 0 else "SOLD_OUT"
        groups = sum(1 for units in books.leases.values() if units)
        rows.append(StockRow(key, offer, books.total, books.free, books.leased, books.sold, groups, len(books.line)))
    return rows


def holders(auditor: Auditor, stock: str) -> Iterator[Holder]:
    """The groups with pieces of a stock item or in its line, those with the most pieces first."""
    books = auditor.pieces.stock(stock).books
    groups = {group for group, units in books.leases.items() if units} | books.line.keys()
    found = [
        _holder(group, auditor.cases.get(group), books.leases.get(group, 0), books.line.get(group, 0))
        for group in groups
    ]
    yield from sorted(found, key=lambda one: (-one.units, one.group))


def _holder(key: str, case: Case | None, units: int, waits_for: int) -> Holder:
    group = None if case is None else case.group
    supply = Supply() if group is None or group.supply is None else group.supply
    by_state = dict.fromkeys(("reserved", "confirmed", "charging"), 0)
    waiting = 0
    state = GroupState.NONE if group is None else group.state
    for seat in {} if group is None else group.seats.values():
        if seat.state is SeatState.RESERVED:
            by_state["reserved"] += seat.quantity
        elif seat.state is SeatState.CONFIRMED:
            by_state["charging" if state is GroupState.COMPLETED else "confirmed"] += seat.quantity
        waiting += seat.state is SeatState.WAITLISTED
    on_the_way = units - supply.held
    deadline_ms = group.deadline_ms if group is not None and state is GroupState.FORMING else 0
    return Holder(
        key,
        state.name,
        units,
        by_state["reserved"],
        by_state["confirmed"],
        by_state["charging"],
        supply.idle,
        on_the_way,
        waits_for,
        deadline_ms,
        _why(state, by_state, supply.idle, on_the_way, waits_for, waiting),
    )


def _why(state: GroupState, pieces: Mapping[str, int], idle: int, on_the_way: int, waits_for: int, waiting: int) -> str:
    """The reasons in words."""
    parts = [f"{count} {name}" for name, count in pieces.items() if count]
    if idle > 0:
        parts.append(f"{idle} for seats that nobody has taken yet" if state is GroupState.FORMING else f"{idle} idle")
    if on_the_way:
        parts.append(f"{abs(on_the_way)} on the way {'to the group or back' if on_the_way > 0 else 'back'}")
    if waits_for:
        parts.append(f"waits in line for {waits_for} for {waiting} orders")
    return ", ".join(parts) or "nothing"
