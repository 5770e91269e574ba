"""How an order that waits leaves the group. Rules version 2: a leader can wait too, for pieces or for its admission."""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.decisions_pb2 import GroupEvent, RefusalReason

from services.groups.domain import events as common
from services.groups.domain.command import Item
from services.groups.domain.model import Phase, State, WaitlistEntry
from services.groups.domain.version_2 import events


def refuse(state: State, order: str, entry: WaitlistEntry, reason: RefusalReason.ValueType) -> Iterator[GroupEvent]:
    """Refuses an order that waits. A solo purchase ends with it; a group without a leader goes on."""
    yield events.seat_refused(order, entry, reason)
    yield from _lose_leader(state, order)


def _lose_leader(state: State, order: str) -> Iterator[GroupEvent]:
    if state.phase is not Phase.FORMING:
        return
    if state.frozen.solo:
        yield common.expired(0)
    elif state.leader == order:
        yield common.leader_changed(state)


def cancel_waitlisted(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Removes a cancelled order from the waitlist. No hold was requested for it."""
    yield common.seat_released(item.order, pb.RELEASE_REASON_CANCELLED)
    yield from _lose_leader(state, item.order)


def cancel_admitting(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Removes a cancelled order that waits for its admission."""
    assert state.supply is not None
    yield from refuse(state, item.order, state.supply.admitting[item.order], pb.REFUSAL_REASON_CANCELLED)


def release_unexpected(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Refuses an order that waits for its admission and has unexpected funds, and requests their return."""
    assert state.supply is not None
    yield from refuse(state, item.order, state.supply.admitting[item.order], pb.REFUSAL_REASON_CANCELLED)
    yield common.release_requested(item.order, pb.RELEASE_REASON_NO_SEAT)


def record_release(state: State, item: Item, at_ms: int) -> Iterator[GroupEvent]:
    """Refuses an order that waits for its admission and that payments released by itself."""
    assert state.supply is not None
    yield from refuse(state, item.order, state.supply.admitting[item.order], pb.REFUSAL_REASON_CANCELLED)
    yield common.member_released(item.order)
