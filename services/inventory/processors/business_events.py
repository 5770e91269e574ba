"""The business events of stock decisions, for the log: without display names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from groupbuy.inventory.v1.decisions_pb2 import CommandRefusal, OfferState, StockDecision

from chassis.telemetry.event_log import BusinessEvent, fields_of

#: Each event with a line: its name in the log, and its fields there. Leases, of which thousands come in a second, have
#: none.
EVENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "created": ("stock created", ("total",)),
    "updated": ("stock updated", ("total",)),
    "archived": ("stock archived", ()),
    "command_refused": ("stock command refused", ()),
    "offer_changed": ("stock offer changed", ("free", "total")),
    "faulted": ("stock rules failed", ("error",)),
}
_ENUMS: dict[str, tuple[str, Any]] = {
    "command_refused": ("reason", CommandRefusal),
    "offer_changed": ("state", OfferState),
}


def business_events(value: bytes) -> Iterator[BusinessEvent]:
    """The business events of a decision record."""
    decision = StockDecision.FromString(value)
    for event in decision.events[:]:
        body = event.WhichOneof("body") or ""
        if body not in EVENTS:
            continue
        name, fields = EVENTS[body]
        inner: Any = getattr(event, body)
        found = {"stock": decision.stock, "version": decision.version, **fields_of(inner, *fields)}
        if body in _ENUMS:
            field, names = _ENUMS[body]
            found[field] = names.Name(getattr(inner, field)).lower()
        yield BusinessEvent(name, found)
