"""The demo's name for the final state of each order."""

from __future__ import annotations

import pytest

from ops.audit.findings import Findings
from ops.audit.group.decisions import GroupFold
from ops.audit.group.membership import GroupState
from ops.audit.group.seats import Seat, SeatState
from ops.audit.group.terms import frozen
from ops.demo.endings import Ending, ending
from tests.unit.ops.scripted_logs import terms


def ended(state: SeatState, *, group: GroupState, solo: bool = False, hold: int = 0, to_settle: int = -1) -> Ending:
    fold = GroupFold("group", Findings())
    offered = terms()
    offered.solo = solo
    fold.state, fold.terms = group, frozen(offered.SerializeToString())
    seat = Seat("order")
    seat.state, seat.hold_minor, seat.to_settle_minor = state, hold, to_settle
    return ending(fold, seat)


def test_a_charged_order_is_a_member_or_a_solo_purchase() -> None:
    assert ended(SeatState.SETTLED, group=GroupState.COMPLETED) is Ending.CHARGED
    assert ended(SeatState.SETTLED, group=GroupState.COMPLETED, solo=True) is Ending.CHARGED_SOLO


def test_a_member_whose_capture_is_declined_is_unpaid() -> None:
    assert ended(SeatState.DECLINED, group=GroupState.COMPLETED, hold=8900, to_settle=7900) is Ending.UNPAID
    assert ended(SeatState.DECLINED, group=GroupState.COMPLETED, hold=8900) is Ending.DECLINED


def test_an_order_is_released_because_the_group_or_its_hold_did_not_complete() -> None:
    assert ended(SeatState.RELEASED, group=GroupState.EXPIRED, hold=8900) is Ending.RELEASED
    assert ended(SeatState.RELEASED, group=GroupState.COMPLETED, hold=8900) is Ending.LATE
    assert ended(SeatState.RELEASED, group=GroupState.COMPLETED) is Ending.WAITLISTED


@pytest.mark.parametrize("state", [SeatState.UNKNOWN, SeatState.WAITLISTED, SeatState.RESERVED, SeatState.CONFIRMED])
def test_an_order_without_a_final_state_is_open(state: SeatState) -> None:
    assert ended(state, group=GroupState.FORMING, hold=8900) is Ending.OPEN
