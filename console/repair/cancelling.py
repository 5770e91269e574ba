"""Predicts what the log gets when a group is cancelled: its service has no call that only checks."""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.groups.v1.decisions_pb2 import RELEASE_REASON_GROUP_CANCELLED, GroupEvent
from groupbuy.groups.v1.groups_pb2 import Group, GroupState, MemberState

#: States of members with a seat, in the order in which they are released. Money is held or may be held for them.
_SEATED = (MemberState.MEMBER_STATE_CONFIRMED, MemberState.MEMBER_STATE_RESERVED)


def refusal_of(group: Group) -> str:
    """Why a group can't be cancelled; empty: it can."""
    if group.state == GroupState.GROUP_STATE_FORMING:
        return ""
    return f"the group is {GroupState.Name(group.state).removeprefix('GROUP_STATE_').lower()}, not forming"


def events_of(group: Group, reason: str) -> Iterator[GroupEvent]:
    """The events of the decision, if the group does not change before."""
    event = GroupEvent()
    event.cancelled.reason = reason
    yield event
    for state in _SEATED:
        for member in group.members:
            if member.state == state:
                yield _released(member.order)
                yield _to_be_released(member.order)
    for member in group.members:
        if member.state == MemberState.MEMBER_STATE_WAITLISTED:
            yield _released(member.order)


def _released(order: str) -> GroupEvent:
    event = GroupEvent()
    event.seat_released.order = order.rpartition("/")[2]
    event.seat_released.reason = RELEASE_REASON_GROUP_CANCELLED
    return event


def _to_be_released(order: str) -> GroupEvent:
    event = GroupEvent()
    event.release_requested.order = order.rpartition("/")[2]
    event.release_requested.reason = RELEASE_REASON_GROUP_CANCELLED
    return event
