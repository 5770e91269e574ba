"""Constructors of a stock item's events. They make no decisions."""

from __future__ import annotations

from groupbuy.inventory.v1.decisions_pb2 import CommandRefusal, OfferState, StockEvent
from groupbuy.inventory.v1.inbox_pb2 import CreateStockCommand, UpdateStockCommand

from services.inventory.domain.stock.model import DEFAULT_LEASE_DIVISOR, StockItem


def created(command: CreateStockCommand) -> StockEvent:
    """The stock item was created."""
    event = StockEvent()
    body = event.created
    body.request_id = command.request_id
    body.display_name = command.display_name
    body.total = command.total
    body.lease_divisor = command.lease_divisor or DEFAULT_LEASE_DIVISOR
    return event


def updated(state: StockItem, command: UpdateStockCommand) -> StockEvent:
    """The stock item was changed."""
    event = StockEvent()
    body = event.updated
    body.request_id = command.request_id
    body.display_name = command.display_name if command.HasField("display_name") else state.display_name
    body.total = command.total if command.HasField("total") else state.total
    divisor = command.lease_divisor if command.HasField("lease_divisor") else state.lease_divisor
    body.lease_divisor = divisor or DEFAULT_LEASE_DIVISOR
    return event


def archived(request_id: str) -> StockEvent:
    """The stock item was archived."""
    event = StockEvent()
    event.archived.request_id = request_id
    return event


def command_refused(request_id: str, reason: CommandRefusal.ValueType) -> StockEvent:
    """A command had no effect."""
    event = StockEvent()
    event.command_refused.request_id = request_id
    event.command_refused.reason = reason
    return event


def heard(partition: int, cause: int, group: str) -> StockEvent:
    """A decision of a group was taken into account."""
    event = StockEvent()
    body = event.heard
    body.SetInParent()
    body.partition = partition
    body.cause = cause
    body.group = group
    return event


def leased(group: str, units: int, *, from_line: bool) -> StockEvent:
    """A group got pieces."""
    event = StockEvent()
    body = event.leased
    body.group = group
    body.units = units
    body.from_line = from_line
    return event


def out_of_stock(group: str, at_least: int, free: int, *, queued: bool) -> StockEvent:
    """A group got no pieces."""
    event = StockEvent()
    body = event.out_of_stock
    body.group = group
    body.at_least = at_least
    body.free = free
    body.queued = queued
    return event


def returned(group: str, units: int) -> StockEvent:
    """Pieces of a group are free again."""
    event = StockEvent()
    event.returned.group = group
    event.returned.units = units
    return event


def sold(group: str, units: int) -> StockEvent:
    """Pieces of a group are sold."""
    event = StockEvent()
    event.sold.group = group
    event.sold.units = units
    return event


def closed(group: str) -> StockEvent:
    """A group asks for no more pieces."""
    event = StockEvent()
    event.closed.group = group
    return event


def offer_changed(stock: str, state: OfferState.ValueType, free: int, total: int) -> StockEvent:
    """Whether pieces can be had changed."""
    event = StockEvent()
    body = event.offer_changed
    body.state = state
    body.free = free
    body.total = total
    body.stock = stock
    return event


def faulted(error: str) -> StockEvent:
    """The rules raised an error."""
    event = StockEvent()
    event.faulted.error = error
    return event
