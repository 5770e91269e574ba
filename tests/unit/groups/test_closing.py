"""Groups close: full, at the deadline, virtually by the house, expired, or cancelled. Prices come with it."""

from __future__ import annotations

import pytest
from groupbuy.groups.v1.campaigns_pb2 import CLOSE_POLICY_AT_DEADLINE, CLOSE_POLICY_WHEN_FULL, Tier

from services.groups.domain.model import Phase
from tests.scenarios.groups import (
    SOLO,
    WINDOW,
    authorised,
    campaign,
    cancel_group,
    cancels,
    forming,
    given,
    joins,
    opens,
    tick,
)


@pytest.mark.parametrize("policy", [0, CLOSE_POLICY_WHEN_FULL])
def test_the_last_paid_seat_completes_the_group_at_once(policy: int) -> None:
    offer = campaign(close_policy=policy)
    group = given(
        opens("a", offer), joins("b"), joins("c"), joins("d"), authorised("c"), authorised("a"), authorised("b")
    )
    group.when(authorised("d")).then(
        "member_confirmed d 4",
        "completed c+a+b+d at 800 led by a",
        "settlement_requested c 800",
        "settlement_requested a 800",
        "settlement_requested b 800",
        "settlement_requested d 800",
    )
    assert group.events[1].completed.tier_members == 3
    request = group.events[2].settlement_requested
    assert (request.hold, request.currency) == ("hold-c", "EUR")
    assert group.due is None


def test_a_full_group_can_close_at_its_deadline() -> None:
    group = forming("a", "b", "c", "d", offer=campaign(close_policy=CLOSE_POLICY_AT_DEADLINE))
    assert group.state.phase is Phase.FORMING
    group.when(joins("e")).then("seat_refused e GROUP_FULL").when(tick(), at=WINDOW)
    assert group.of("a+b+c+d")[0] == "completed a+b+c+d at 800 led by a"


def test_reserved_seats_do_not_complete_a_group() -> None:
    group = given(opens("a"), joins("b"), joins("c"), joins("d"), authorised("a"), authorised("b"), authorised("c"))
    assert group.state.phase is Phase.FORMING


def test_each_tier_is_announced_once_when_it_is_first_reached() -> None:
    group = given(opens("a"), joins("b"), joins("c"), authorised("a")).then("opened a", *group_lines("a", "b", "c"))
    group.when(authorised("b")).then("member_confirmed b 2", "tier_reached 2 900")
    group.when(cancels("b"), joins("d"))
    group.when(authorised("d")).then("member_confirmed d 2")
    group.when(authorised("c")).then("member_confirmed c 3", "tier_reached 3 800")


def group_lines(*orders: str) -> list[str]:
    return [*(f"seat_reserved {order}" for order in orders), f"member_confirmed {orders[0]} 1"]


def test_all_members_pay_the_tier_that_the_group_has_when_it_closes() -> None:
    group = forming("a", "b", "c").when(tick(), at=WINDOW)
    group.then(
        "completed a+b+c at 800 led by a",
        "settlement_requested a 800",
        "settlement_requested b 800",
        "settlement_requested c 800",
    )
    group = forming("a", "b", "c").when(cancels("c")).when(tick(), at=WINDOW)
    group.then("completed a+b at 900 led by a", "settlement_requested a 900", "settlement_requested b 900")


def test_pieces_multiply_the_price_but_not_the_members() -> None:
    group = given(opens("a", quantity=3), joins("b", quantity=2), authorised("a", 2_700), authorised("b", 1_800))
    group.when(tick(), at=WINDOW)
    group.then("completed a+b at 900 led by a", "settlement_requested a 2700", "settlement_requested b 1800")


def test_a_group_with_too_few_members_expires_and_releases_all_orders() -> None:
    group = given(opens("a"), joins("b"), joins("c"), authorised("a"), cancels("c")).when(joins("d"), at=WINDOW - 1)
    group.when(tick(), at=WINDOW)
    group.then(
        "expired 1",
        "seat_released a GROUP_EXPIRED",
        "release_requested a GROUP_EXPIRED",
        "seat_released d GROUP_EXPIRED",
        "release_requested d GROUP_EXPIRED",
    )
    assert group.state.members == 1


def test_completion_releases_unpaid_orders() -> None:
    group = forming("a", "b").when(joins("c"), at=WINDOW - 1).when(tick(), at=WINDOW)
    assert group.of("c") == ["seat_released c GROUP_COMPLETED", "release_requested c GROUP_COMPLETED"]


def test_virtual_completion_charges_the_first_tiers_price() -> None:
    offer = campaign(tiers=[Tier(members=4, unit_price_minor=900)], house_fill_members=2)
    group = forming("a", "b", offer=offer).when(tick(), at=WINDOW)
    assert group.events[0].completed.tier_members == 4
    group.then("completed a+b at 900 led by a virtually", "settlement_requested a 900", "settlement_requested b 900")


def test_virtual_completion_needs_its_members_and_the_deadline() -> None:
    offer = campaign(tiers=[Tier(members=4, unit_price_minor=900)], house_fill_members=2)
    assert forming("a", offer=offer).when(tick(), at=WINDOW).state.phase is Phase.EXPIRED
    assert forming("a", "b", offer=offer).when(tick(), at=WINDOW - 1).state.phase is Phase.FORMING


def test_a_group_that_reached_its_tier_is_not_virtually_completed() -> None:
    group = forming("a", "b", offer=campaign(house_fill_members=1)).when(tick(), at=WINDOW)
    assert not group.events[0].completed.house_filled


def test_the_leaders_discount_is_for_each_piece_of_the_leaders_order() -> None:
    offer = campaign(leader_discount_minor=50)
    group = given(opens("a", offer, quantity=2), joins("b", quantity=2), authorised("a", 1_800), authorised("b", 1_800))
    group.when(tick(), at=WINDOW)
    group.then("completed a+b at 900 led by a", "settlement_requested a 1700", "settlement_requested b 1800")


def test_the_leaders_discount_goes_to_the_leader_at_completion() -> None:
    group = forming("a", "b", "c", offer=campaign(leader_discount_minor=50)).when(cancels("a"))
    group.when(tick(), at=WINDOW)
    group.then("completed b+c at 900 led by b", "settlement_requested b 850", "settlement_requested c 900")


def test_an_unpaid_leader_is_replaced_at_the_deadline_and_has_no_discount() -> None:
    offer = campaign(leader_discount_minor=50, hold_window=campaign().window)
    group = given(opens("a", offer), joins("b"), joins("c"), authorised("c"), authorised("b")).when(tick(), at=WINDOW)
    group.then(
        "leader_changed c",
        "completed c+b at 900 led by c",
        "settlement_requested c 850",
        "settlement_requested b 900",
        "seat_released a GROUP_COMPLETED",
        "release_requested a GROUP_COMPLETED",
    )


def test_a_solo_purchase_completes_when_it_is_paid_at_the_solo_price() -> None:
    offer = campaign(close_policy=CLOSE_POLICY_AT_DEADLINE, leader_discount_minor=50, waitlist=True)
    group = given(opens("a", offer, solo=True, opens_group=False, quantity=2))
    assert group.events[1].seat_reserved.hold_amount_minor == 2 * SOLO
    group.when(authorised("a", 2_000))
    group.then("member_confirmed a 1", "completed a at 1000 led by a", "settlement_requested a 2000")
    assert group.events[1].completed.tier_members == 1


def test_an_unpaid_solo_purchase_expires_at_its_deadline() -> None:
    offer = campaign(hold_window=campaign().window)
    group = given(opens("a", offer, solo=True)).when(tick(), at=WINDOW)
    group.then("expired 0", "seat_released a GROUP_EXPIRED", "release_requested a GROUP_EXPIRED")


def test_a_cancelled_group_releases_all_orders() -> None:
    group = given(opens("a"), joins("b"), authorised("a")).when(cancel_group("sold out"))
    group.then(
        "cancelled sold out",
        "seat_released a GROUP_CANCELLED",
        "release_requested a GROUP_CANCELLED",
        "seat_released b GROUP_CANCELLED",
        "release_requested b GROUP_CANCELLED",
    )
    group.when(cancel_group()).then_nothing().when(tick(), at=WINDOW).then_nothing()


def test_a_cancel_without_a_reason_is_recorded() -> None:
    given(opens("a")).when(cancel_group("")).then(
        "cancelled", "seat_released a GROUP_CANCELLED", "release_requested a GROUP_CANCELLED"
    )


def test_a_closed_or_unopened_group_can_not_be_cancelled() -> None:
    given().when(cancel_group()).then_nothing()
    forming("a", "b").when(tick(), at=WINDOW).when(cancel_group()).then_nothing()
    given(opens("a")).when(tick(), at=WINDOW).when(cancel_group()).then_nothing()
