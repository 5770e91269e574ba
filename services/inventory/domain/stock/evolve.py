"""Applies an event to a stock item, in place. It makes no decisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from groupbuy.inventory.v1 import decisions_pb2 as pb
from groupbuy.inventory.v1.decisions_pb2 import StockEvent

from services.inventory.domain.stock.model import Lease, StockItem

#: Commands whose results are kept, so that a retry has the same result.
MAX_COMMANDS = 64


class UnknownEvent(ValueError):
    """An event that this build does not know. Deploy a newer build; events are not skipped."""


def evolve(state: StockItem, event: StockEvent, at_ms: int) -> None:
    """Applies one event. Raises UnknownEvent."""
    body = event.WhichOneof("body")
    if body is None:
        raise UnknownEvent("the StockEvent has no body that this build knows")
    EVOLVE[body](state, getattr(event, body))
    state.updated_ms = at_ms
    if not state.created_ms:
        state.created_ms = at_ms


# Commands -----------------------------------------------------------------------------------------------------------


def _created(state: StockItem, event: pb.StockCreated) -> None:
    state.revision = 1
    state.created_ms = 0
    state.display_name = event.display_name
    state.total = event.total
    state.lease_divisor = event.lease_divisor
    _remember(state, event.request_id, 0)


def _updated(state: StockItem, event: pb.StockUpdated) -> None:
    state.revision += 1
    state.display_name = event.display_name
    state.total = event.total
    state.lease_divisor = event.lease_divisor
    _remember(state, event.request_id, 0)


def _archived(state: StockItem, event: pb.StockArchived) -> None:
    if not state.archived:
        state.revision += 1
    state.archived = True
    _remember(state, event.request_id, 0)


def _command_refused(state: StockItem, event: pb.CommandRefused) -> None:
    _remember(state, event.request_id, event.reason)


def _remember(state: StockItem, request_id: str, result: int) -> None:
    if len(state.commands) >= MAX_COMMANDS:
        del state.commands[next(iter(state.commands))]
    state.commands[request_id] = result


# Groups -------------------------------------------------------------------------------------------------------------


def _heard(state: StockItem, event: pb.GroupHeard) -> None:
    state.heard[event.partition] = event.cause


def _leased(state: StockItem, event: pb.UnitsLeased) -> None:
    group = event.group
    lease = state.leases.get(group)
    if lease is None:
        lease = state.leases[group] = Lease()
        state.open_leases += 1
    lease.units += event.units
    state.leased += event.units
    if state.line:
        state.line.pop(group, None)


def _out_of_stock(state: StockItem, event: pb.OutOfStock) -> None:
    if event.queued:
        state.line[event.group] = event.at_least
    else:
        state.line.pop(event.group, None)


def _returned(state: StockItem, event: pb.LeaseReturned) -> None:
    _take(state, event.group, event.units)


def _sold(state: StockItem, event: pb.LeaseSold) -> None:
    state.sold += event.units
    _take(state, event.group, event.units)


def _closed(state: StockItem, event: pb.LeaseClosed) -> None:
    state.line.pop(event.group, None)
    lease = state.leases.get(event.group)
    if lease is not None and not lease.closed:
        lease.closed = True
        state.open_leases -= 1
        _take(state, event.group, 0)


def _take(state: StockItem, group: str, units: int) -> None:
    """Takes pieces from a lease, and removes it if it is closed and empty."""
    lease = state.leases[group]
    lease.units -= units
    state.leased -= units
    if lease.closed and not lease.units:
        del state.leases[group]


def _offer_changed(state: StockItem, event: pb.OfferChanged) -> None:
    state.offer = event.state


def _no_change(state: StockItem, event: Any) -> None:
    """An event for the record."""


EVOLVE: dict[str, Callable[[StockItem, Any], None]] = {
    "created": _created,
    "updated": _updated,
    "archived": _archived,
    "heard": _heard,
    "leased": _leased,
    "out_of_stock": _out_of_stock,
    "returned": _returned,
    "sold": _sold,
    "closed": _closed,
    "command_refused": _command_refused,
    "offer_changed": _offer_changed,
    "faulted": _no_change,
}
