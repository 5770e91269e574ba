"""The rules of a stock item: a function from state, input and time to events. The caller applies each event before the
next is computed.

A group asks for pieces, gets a lease or the answer that there are too few, and gives back or sells what it got. The
size of a lease is what orders wait for, and up to `free // (divisor × open leases)` for the free seats: with ample
stock a group gets all its pieces in one answer, and near the end few pieces lie idle in groups. Returned pieces go to
the line first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from groupbuy.inventory.v1 import decisions_pb2 as pb
from groupbuy.inventory.v1.decisions_pb2 import StockEvent
from groupbuy.inventory.v1.inbox_pb2 import GroupUnits, StockInput

from services.inventory.domain.stock import events
from services.inventory.domain.stock.model import StockItem

#: Groups that one decision answers from the line; the next tick continues.
ANSWERS_BATCH = 64


class UnknownInput(ValueError):
    """An input of a kind that this build does not know. Deploy a newer build; inputs are not skipped."""


@dataclass(slots=True)
class Command:
    """One input."""

    #: Name of the field that held the message.
    kind: str
    message: Any
    #: Partition of the group of `group_units`; -1 for other inputs.
    partition: int = -1


def decode(value: bytes) -> Command:
    """Parses a StockInput. Raises DecodeError and UnknownInput."""
    record = StockInput.FromString(value)
    kind = record.WhichOneof("body")
    if kind is None:
        raise UnknownInput("the StockInput has no body that this build knows")
    if kind == "group_units":
        return Command(kind, record.group_units, record.source.partition)
    return Command(kind, getattr(record, kind))


def decide(state: StockItem, command: Command, at_ms: int) -> Iterator[StockEvent]:
    """Events of one input."""
    kind = command.kind
    if kind == "group_units":
        units: GroupUnits = command.message
        if is_repeat(state, command):
            return
        yield events.heard(command.partition, units.cause, units.group)
        yield from _on_group(state, units)
    elif kind != "tick":
        yield from _on_command(state, kind, command.message)
    if state.line:
        yield from _serve_line(state)
    if state.revision:
        offer = _offer(state)
        if offer != state.offer:
            yield events.offer_changed(state.key, offer, state.free, state.total)


def is_repeat(state: StockItem, command: Command) -> bool:
    """Whether a decision of a group was heard before: first appearances have ascending causes within a partition."""
    heard: int = state.heard.get(command.partition, -1)
    return bool(command.message.cause <= heard)


# Groups -------------------------------------------------------------------------------------------------------------


def _on_group(state: StockItem, units: GroupUnits) -> Iterator[StockEvent]:
    group = units.group
    if units.sold:
        yield from _sell(state, group, units.sold)
    if units.returned:
        yield from _return(state, group, units.returned)
    if units.closed:
        if group in state.leases or group in state.line:
            yield events.closed(group)
    elif units.at_least:
        yield _answer(state, units)


def _sell(state: StockItem, group: str, units: int) -> Iterator[StockEvent]:
    """Books pieces of charged members, at most those that the group has."""
    lease = state.leases.get(group)
    found = 0 if lease is None else min(units, lease.units)
    if found:
        yield events.sold(group, found)


def _return(state: StockItem, group: str, units: int) -> Iterator[StockEvent]:
    """Takes pieces back, at most those that the group has: a repeat must not create pieces."""
    lease = state.leases.get(group)
    found = 0 if lease is None else min(units, lease.units)
    if found:
        yield events.returned(group, found)


def _answer(state: StockItem, units: GroupUnits) -> StockEvent:
    """A lease, a place in the line, or the answer that there are too few pieces."""
    group, at_least, free = units.group, units.at_least, state.free
    if not state.archived and at_least <= free and not state.line:
        open_leases = state.open_leases + (group not in state.leases)
        share = free // (state.lease_divisor * open_leases)
        # What orders wait for is not held back: it would not lie idle.
        wanted = max(at_least, min(units.wanted, free))
        return events.leased(group, max(wanted, min(units.at_most, share)), from_line=False)
    # Nobody overtakes the line. A piece that is not free now can come back while a group has it.
    queued = units.queue and state.revision > 0 and not state.archived
    usable = 0 if state.archived or state.line else free
    return events.out_of_stock(group, at_least, usable, queued=queued)


def _serve_line(state: StockItem) -> Iterator[StockEvent]:
    """Answers the groups in line while there are pieces. An archived stock item sends them away."""
    for _ in range(ANSWERS_BATCH):
        if not can_serve_line(state):
            return
        group, at_least = next(iter(state.line.items()))
        if state.archived:
            yield events.out_of_stock(group, at_least, 0, queued=False)
        else:
            yield events.leased(group, at_least, from_line=True)


def can_serve_line(state: StockItem) -> bool:
    """Whether the first group in line has an answer."""
    for at_least in state.line.values():
        return state.archived or at_least <= state.free
    return False


def _offer(state: StockItem) -> pb.OfferState.ValueType:
    if state.archived:
        return pb.OFFER_STATE_ENDED
    return pb.OFFER_STATE_LIVE if state.free > 0 else pb.OFFER_STATE_SOLD_OUT


# Commands -----------------------------------------------------------------------------------------------------------


def _on_command(state: StockItem, kind: str, command: Any) -> Iterator[StockEvent]:
    """Every command has one result, which its request id finds again."""
    if command.request_id in state.commands:
        return
    refusal = _refusal(state, kind, command)
    if refusal is not None:
        yield events.command_refused(command.request_id, refusal)
    elif kind == "create":
        yield events.created(command)
    elif kind == "update":
        yield events.updated(state, command)
    else:
        yield events.archived(command.request_id)


def _refusal(state: StockItem, kind: str, command: Any) -> pb.CommandRefusal.ValueType | None:
    """Why a command has no effect, or None."""
    if kind == "create":
        return pb.COMMAND_REFUSAL_EXISTS if state.revision else None
    if not state.revision:
        return pb.COMMAND_REFUSAL_NOT_FOUND
    if command.expected_revision and command.expected_revision != state.revision:
        return pb.COMMAND_REFUSAL_REVISION
    if kind == "update":
        if state.archived:
            return pb.COMMAND_REFUSAL_ARCHIVED
        if command.HasField("total") and command.total < state.sold + state.leased:
            return pb.COMMAND_REFUSAL_BELOW_OUT
    return None
