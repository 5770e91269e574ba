"""The business events of group decisions, for the log: without customers, payment methods and free texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupDecision, RefusalReason, ReleaseReason

from chassis.telemetry.event_log import BusinessEvent, fields_of

#: Each event with a line: its name in the log, and its fields there.
EVENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "opened": ("group opened", ("deadline_ms",)),
    "seat_reserved": ("seat reserved", ("order", "quantity", "hold_amount_minor", "currency")),
    "seat_refused": ("seat refused", ("order",)),
    "seat_waitlisted": ("seat waitlisted", ("order", "quantity")),
    "seat_released": ("seat released", ("order",)),
    "member_confirmed": ("member confirmed", ("order", "members")),
    "completed": ("group completed", ("tier_members", "unit_price_minor")),
    "expired": ("group expired", ("members",)),
    "cancelled": ("group cancelled", ()),
    "settled": ("group settled", ("settled", "declined", "captured_minor")),
    "faulted": ("group rules failed", ("error",)),
}
#: Events that end the forming of a group. The seats that they release have no lines: there may be thousands.
_CLOSING = frozenset({"completed", "expired", "cancelled"})
_REASONS: dict[str, Any] = {"seat_refused": RefusalReason, "seat_released": ReleaseReason}


def business_events(value: bytes) -> Iterator[BusinessEvent]:
    """The business events of a decision record."""
    decision = GroupDecision.FromString(value)
    bodies = [(event.WhichOneof("body") or "", event) for event in decision.events[:]]
    closes = any(body in _CLOSING for body, _ in bodies)
    for body, event in bodies:
        if body not in EVENTS or (closes and body == "seat_released"):
            continue
        name, fields = EVENTS[body]
        inner: Any = getattr(event, body)
        found = {"group": decision.group, "version": decision.version, **fields_of(inner, *fields)}
        if body in _REASONS:
            found["reason"] = _REASONS[body].Name(inner.reason).partition("_REASON_")[2].lower()
        if body == "completed":
            found["members"] = len(inner.orders)
        yield BusinessEvent(name, found)
