"""A group shows its current price and all orders with a seat or in the waitlist."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from groupbuy.groups.v1.groups_pb2 import (
    GROUP_STATE_COMPLETED,
    GROUP_STATE_EXPIRED,
    GROUP_STATE_FORMING,
    Group,
    MemberState,
)

from eventlog.core.aggregate import Aggregate
from services.groups.api.mapping import group_message
from services.groups.domain.model import OrderStatus, Phase, State, WaitlistEntry
from services.groups.domain.terms import freeze, terms_of
from tests.scenarios.facts import GROUP, campaign
from tests.unit.groups_api.world import TIME_MS, forming


def shown(state: State, version: int = 3) -> Group:
    assert state.terms is not None
    return group_message(Aggregate(GROUP, state, version, 0, TIME_MS + 5, b""), state.terms)


def members(group: Group) -> list[tuple[str, str, int, str]]:
    return [
        (
            member.order.removeprefix(f"groups/{GROUP}/orders/"),
            member.customer,
            member.quantity,
            MemberState.Name(member.state).removeprefix("MEMBER_STATE_"),
        )
        for member in group.members
    ]


def test_a_forming_group_shows_its_members() -> None:
    state = forming(1)
    state.waitlist = OrderedDict(w=WaitlistEntry("will", 4, "card_secret", b""))
    group = shown(state)
    assert (group.name, group.campaign, group.state) == (f"groups/{GROUP}", "campaigns/mug", GROUP_STATE_FORMING)
    assert group.leader_order == f"groups/{GROUP}/orders/o0"
    assert members(group) == [
        ("o0", "c0", 1, "CONFIRMED"),
        ("r", "rita", 3, "RESERVED"),
        ("w", "will", 4, "WAITLISTED"),
    ]
    assert (group.confirmed_members, group.seats_left, group.version, group.settled) == (1, 8, 3, False)
    assert group.terms.campaign == group.campaign
    assert group.create_time.ToMilliseconds() == TIME_MS
    assert group.deadline_time.ToMilliseconds() == TIME_MS + 3_600_000
    assert group.update_time.ToMilliseconds() == TIME_MS + 5
    assert "card_secret" not in str(group)


@pytest.mark.parametrize(
    ("confirmed", "price", "upcoming"),
    [(0, 8900, 2), (1, 8900, 2), (2, 8900, 5), (4, 8900, 5), (5, 7900, 0), (7, 7900, 0)],
)
def test_the_price_is_that_of_the_tier_reached_so_far(confirmed: int, price: int, upcoming: int) -> None:
    group = shown(forming(confirmed))
    assert (group.unit_price_minor, group.next_tier_members) == (price, upcoming)


def test_a_completed_group_shows_its_price_and_final_states() -> None:
    state = forming(2)
    state.phase = Phase.COMPLETED
    state.members = 5
    state.unit_price_minor = 7900
    state.reserved.clear()
    state.confirmed.popitem()
    state.ended = {
        "s": int(OrderStatus.SETTLED),
        "f": int(OrderStatus.CAPTURE_DECLINED),
        "x": int(OrderStatus.RELEASED),
        "gone": int(OrderStatus.CANCELLED),
        "refused": int(OrderStatus.REFUSED),
    }
    group = shown(state)
    assert (group.state, group.confirmed_members, group.unit_price_minor) == (GROUP_STATE_COMPLETED, 5, 7900)
    assert (group.next_tier_members, group.seats_left, group.settled) == (0, 0, False)
    assert members(group) == [
        ("o0", "c0", 1, "CONFIRMED"),
        ("s", "", 0, "SETTLED"),
        ("f", "", 0, "DECLINED"),
        ("x", "", 0, "RELEASED"),
    ]


def test_an_expired_group_is_done_when_all_are_released() -> None:
    state = forming()
    state.phase = Phase.EXPIRED
    state.reserved.clear()
    state.unreleased = 1
    assert not shown(state).settled
    state.unreleased = 0
    group = shown(state)
    assert (group.state, group.settled, group.unit_price_minor) == (GROUP_STATE_EXPIRED, True, 8900)


def test_a_solo_purchase_has_the_solo_price_and_no_tiers() -> None:
    made = campaign(name="campaigns/mug")
    state = State(phase=Phase.FORMING, terms=terms_of(freeze(made, solo=True).SerializeToString()))
    group = shown(state)
    assert (group.unit_price_minor, group.next_tier_members, group.seats_left) == (9900, 0, 1)
