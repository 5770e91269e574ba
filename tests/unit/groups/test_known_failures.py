"""Known failures of other group-buying systems that one group's decisions can cause. Each test names its failure."""

from __future__ import annotations

from itertools import permutations

import pytest
from groupbuy.groups.v1.campaigns_pb2 import Tier
from groupbuy.groups.v1.decisions_pb2 import GroupDecision

from services.groups.domain.model import OrderStatus, Phase
from tests.scenarios.groups import (
    HOLD_WINDOW,
    START_MS,
    WINDOW,
    authorised,
    campaign,
    cancels,
    captured,
    declined,
    forming,
    given,
    joins,
    opens,
    payments_decided,
    released,
    tick,
)

FIVE = campaign(capacity=5, tiers=[Tier(members=5, unit_price_minor=900)])


def test_a_hundred_joiners_race_for_the_last_seat_and_one_wins() -> None:
    group = given(opens("a", FIVE), *(joins(f"m{n}") for n in range(3)))
    group.when(*(joins(f"j{n}") for n in range(100)))
    group.then("seat_reserved j0", *(f"seat_refused j{n} GROUP_FULL" for n in range(1, 100)))


def test_the_last_two_joiners_pay_in_the_same_moment_and_the_group_completes() -> None:
    for last in permutations(("m2", "m3")):
        group = given(opens("a", FIVE), *(joins(f"m{n}") for n in range(4)), *map(authorised, ("a", "m0", "m1")))
        group.when(*map(authorised, last))
        assert group.state.phase is Phase.COMPLETED
        completed = next(event.completed for event in group.events if event.HasField("completed"))
        assert list(completed.orders) == ["a", "m0", "m1", *last]


def test_ten_copies_of_one_payment_notification_are_handled_once() -> None:
    group = given(opens("a"), joins("b"), joins("c"), joins("d"), *map(authorised, "abc"))
    group.when(*[authorised("d")] * 10)
    assert [line for line in group.of("d") if line.startswith("member_confirmed")] == ["member_confirmed d 4"]
    assert sum(event.HasField("settlement_requested") for event in group.events) == 4
    group.when(*[captured("d")] * 10).then("member_settled d 800")


def test_one_cart_submitted_thirteen_times_is_one_order() -> None:
    given(opens("a")).when(*[joins("b")] * 13).then("seat_reserved b")


def test_a_shopper_who_joins_ten_times_has_one_seat() -> None:
    group = given(opens("a")).when(*(joins(f"b{n}", customer="bob") for n in range(10)))
    group.then("seat_reserved b0", *(f"seat_refused b{n} ALREADY_MEMBER" for n in range(1, 10)))


def test_a_late_payment_does_not_reopen_a_cancelled_order() -> None:
    group = given(opens("a"), joins("b"), cancels("b")).when(authorised("b")).then_nothing()
    assert group.state.status("b") is OrderStatus.CANCELLED
    # The return of funds was requested with the cancel; payments also returns funds that come later.
    events = [event for value in group.log for event in GroupDecision.FromString(value).events]
    assert [event.release_requested.order for event in events if event.HasField("release_requested")] == ["b"]


def test_funds_without_a_seat_are_returned() -> None:
    full = given(opens("a"), joins("b"), joins("c"), joins("d"), joins("e"))
    full.when(authorised("e")).then("release_requested e NO_SEAT")


def test_each_members_release_names_the_members_own_order() -> None:
    group = forming("a", "b", offer=FIVE).when(tick(), at=WINDOW)
    assert [e.release_requested.order for e in group.events if e.HasField("release_requested")] == ["a", "b"]


def test_a_group_does_not_complete_with_members_who_left() -> None:
    group = given(opens("a", FIVE), *(joins(f"m{n}") for n in range(4)), *map(authorised, ("a", "m0", "m1", "m2")))
    group.when(cancels("m1")).when(authorised("m3"))
    assert group.state.phase is Phase.FORMING
    group.when(joins("m9")).when(authorised("m9"))
    assert list(group.events[-6].completed.orders) == ["a", "m0", "m2", "m3", "m9"]


def test_a_leaders_exit_does_not_restart_the_window() -> None:
    group = forming("a", "b").when(cancels("a"), at=WINDOW // 2)
    assert group.state.deadline_ms == START_MS + WINDOW
    assert group.due == WINDOW


@pytest.mark.parametrize("paid", [(), ("a",), ("a", "b"), ("a", "b", "c")])
def test_the_deadline_stands_whatever_the_number_of_paid_members(paid: tuple[str, ...]) -> None:
    group = given(opens("a"), joins("b"), joins("c"), *map(authorised, paid)).when(tick(), at=WINDOW)
    assert group.state.phase is (Phase.COMPLETED if len(paid) > 1 else Phase.EXPIRED)


def test_funds_that_come_after_the_hold_window_are_returned() -> None:
    group = given(opens("a"), joins("b")).when(authorised("b"), at=HOLD_WINDOW)
    assert group.of("b") == ["seat_released b LAPSED", "release_requested b LAPSED"]


def test_a_released_seat_can_be_taken_again() -> None:
    group = given(opens("a", FIVE), *(joins(f"m{n}") for n in range(4))).when(joins("late"))
    group.then("seat_refused late GROUP_FULL").when(declined("m0")).when(joins("next")).then("seat_reserved next")


def test_a_group_above_its_first_tier_completes() -> None:
    group = forming("a", "b", "c").when(tick(), at=WINDOW)
    assert group.state.phase is Phase.COMPLETED


def test_a_group_short_of_members_is_not_settled() -> None:
    group = forming("a", "b", "c", "d", offer=FIVE).when(tick(), at=WINDOW)
    assert not [event for event in group.events if event.HasField("settlement_requested")]


def test_a_link_to_a_group_of_another_campaign_is_refused() -> None:
    given(opens("a")).when(joins("b", campaign="cup")).then("seat_refused b CAMPAIGN_MISMATCH")


def test_an_order_is_never_both_confirmed_and_refused() -> None:
    group = given(opens("a"), joins("b"), declined("b")).when(authorised("b"), joins("b"))
    group.then("release_requested b NO_SEAT")
    group.when(released("b")).then("member_released b")


def test_a_redelivered_record_is_not_decided_twice() -> None:
    group = given(opens("a"), joins("b"), authorised("a"))
    group.when(opens("a"), joins("b"), authorised("a"), authorised("a")).then_nothing()


def test_every_order_of_a_closed_group_has_a_final_status() -> None:
    group = given(opens("a"), joins("b"), joins("c", quantity=0), authorised("a")).when(tick(), at=WINDOW)
    group.when(released("a"), released("b"))
    assert group.state.is_done
    assert {order: group.state.status(order) for order in "abc"} == {
        "a": OrderStatus.RELEASED,
        "b": OrderStatus.LAPSED,
        "c": OrderStatus.REFUSED,
    }


def test_completion_is_decided_on_the_state_after_the_event() -> None:
    group = given(opens("a", FIVE), *(joins(f"m{n}") for n in range(4)), *map(authorised, ("a", "m0", "m1", "m2")))
    group.when(authorised("m3"))
    assert [event.WhichOneof("body") for event in group.events[:3]] == ["member_confirmed", "tier_reached", "completed"]


def test_amounts_are_whole_numbers() -> None:
    group = given(
        opens("a", campaign(leader_discount_minor=33), quantity=3), authorised("a", 2_700), payments_decided()
    )
    group.when(joins("b"), authorised("b")).when(tick(), at=WINDOW)
    assert [e.settlement_requested.amount_minor for e in group.events if e.HasField("settlement_requested")] == [
        2_601,
        900,
    ]
