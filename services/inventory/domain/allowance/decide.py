"""The rules of an allowance: orders within the limit are admitted, and orders that end without a purchase give their
pieces back. One aggregate sees all orders of a customer in a campaign, so two groups can't both take the last piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from groupbuy.inventory.v1.decisions_pb2 import AllowanceEvent
from groupbuy.inventory.v1.inbox_pb2 import AllowanceInput, GroupAllowance

from services.inventory.domain.allowance.model import Allowance


class UnknownInput(ValueError):
    """An input of a kind that this build does not know. Deploy a newer build; inputs are not skipped."""


@dataclass(slots=True)
class Command:
    """One input; `asked` is None for a tick."""

    asked: GroupAllowance | None
    #: Partition of the group.
    partition: int


def decode(value: bytes) -> Command:
    """Parses an AllowanceInput. Raises DecodeError and UnknownInput."""
    record = AllowanceInput.FromString(value)
    kind = record.WhichOneof("body")
    if kind is None:
        raise UnknownInput("the AllowanceInput has no body that this build knows")
    return Command(record.group_allowance if kind == "group_allowance" else None, record.source.partition)


def decide(state: Allowance, command: Command, at_ms: int) -> Iterator[AllowanceEvent]:
    """Events of one input."""
    asked = command.asked
    if asked is None or is_repeat(state, command):
        return
    yield heard(command)
    for order in asked.returned:
        if order in state.admitted:
            yield _returned(order)
    for request in asked.requested:
        if request.order in state.admitted:
            yield _answer(asked.group, request.order, request.quantity, admitted=True)
            continue
        admitted = state.pieces + request.quantity <= asked.limit
        yield _answer(asked.group, request.order, request.quantity, admitted=admitted)


def fault(state: Allowance, command: Command, error: str) -> Iterator[AllowanceEvent]:
    """The events of an input on which the rules failed. Orders that asked are denied: each gets one answer."""
    event = AllowanceEvent()
    event.faulted.error = error
    yield event
    asked = command.asked
    if asked is None or is_repeat(state, command):
        return
    yield heard(command)
    for request in asked.requested:
        if request.order not in state.admitted:
            yield _answer(asked.group, request.order, request.quantity, admitted=False)


def is_repeat(state: Allowance, command: Command) -> bool:
    """Whether the input was heard before: first appearances have ascending causes within a partition."""
    return command.asked is not None and command.asked.cause <= state.heard.get(command.partition, -1)


def heard(command: Command) -> AllowanceEvent:
    """A decision of a group was taken into account."""
    assert command.asked is not None
    event = AllowanceEvent()
    body = event.heard
    body.SetInParent()
    body.partition = command.partition
    body.cause = command.asked.cause
    body.group = command.asked.group
    return event


def _answer(group: str, order: str, quantity: int, *, admitted: bool) -> AllowanceEvent:
    event = AllowanceEvent()
    body = event.admitted if admitted else event.denied
    body.order = order
    body.group = group
    body.quantity = quantity
    return event


def _returned(order: str) -> AllowanceEvent:
    event = AllowanceEvent()
    event.returned.order = order
    return event
