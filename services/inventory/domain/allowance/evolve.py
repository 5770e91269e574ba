"""Applies an event to an allowance, in place. It makes no decisions."""

from __future__ import annotations

from groupbuy.inventory.v1.decisions_pb2 import AllowanceEvent

from services.inventory.domain.allowance.model import Allowance


class UnknownEvent(ValueError):
    """An event that this build does not know. Deploy a newer build; events are not skipped."""


def evolve(state: Allowance, event: AllowanceEvent, at_ms: int) -> None:
    """Applies one event. Raises UnknownEvent."""
    body = event.WhichOneof("body")
    if body == "heard":
        state.heard[event.heard.partition] = event.heard.cause
    elif body == "admitted":
        if event.admitted.order not in state.admitted:
            state.admitted[event.admitted.order] = event.admitted.quantity
            state.pieces += event.admitted.quantity
    elif body == "returned":
        state.pieces -= state.admitted.pop(event.returned.order)
    elif body is None:
        raise UnknownEvent("the AllowanceEvent has no body that this build knows")
