"""Cancels: in time, too late, or before the order has come; and the succession of the leader."""

from __future__ import annotations

import pytest

from services.groups.domain.model import OrderStatus
from tests.scenarios.groups import (
    HOLD_WINDOW,
    MINUTE,
    START_MS,
    WINDOW,
    authorised,
    campaign,
    cancel_group,
    cancels,
    capture_declined,
    captured,
    declined,
    forming,
    given,
    joins,
    opens,
    rejected,
    tick,
)


@pytest.mark.parametrize("paid", [(), ("b",)])
def test_a_member_can_cancel_in_a_forming_group_with_or_without_a_hold(paid: tuple[str, ...]) -> None:
    group = given(opens("a"), joins("b"), *(authorised(order) for order in paid)).when(cancels("b"))
    group.then("seat_released b CANCELLED", "release_requested b CANCELLED").when(cancels("b")).then_nothing()
    assert group.state.seats_left == 3


def test_a_cancelled_order_can_not_join_again() -> None:
    given(opens("a"), joins("b"), cancels("b")).when(joins("b"), authorised("b")).then_nothing()


def test_the_earliest_confirmed_member_succeeds_the_leader_and_the_deadline_stays() -> None:
    group = given(opens("a"), joins("b"), joins("c"), joins("d"), authorised("a"), authorised("c"), authorised("b"))
    group.when(cancels("a"), at=30 * MINUTE)
    assert group.of("a") == ["seat_released a CANCELLED", "release_requested a CANCELLED"]
    assert group.of("c") == ["leader_changed c"]
    assert group.events[-1].leader_changed.customer == "customer of c"
    assert group.state.deadline_ms == START_MS + WINDOW


def test_without_members_the_next_confirmed_order_becomes_the_leader() -> None:
    group = given(opens("a"), joins("b"), joins("c")).when(cancels("a"))
    group.then("seat_released a CANCELLED", "release_requested a CANCELLED", "leader_changed nobody")
    group.when(authorised("c")).then("member_confirmed c 1", "leader_changed c")
    group.when(authorised("b")).then("member_confirmed b 2", "tier_reached 2 900")


@pytest.mark.parametrize(("end", "at", "reason"), [(declined("a"), 0, "DECLINED"), (tick(), HOLD_WINDOW, "LAPSED")])
def test_an_unpaid_leader_is_succeeded_too(end: bytes, at: int, reason: str) -> None:
    group = given(opens("a"), joins("b"), authorised("b")).when(end, at=at)
    assert group.of("a")[0] == f"seat_released a {reason}"
    assert group.of("b") == ["leader_changed b"]


def test_the_cancel_of_a_member_keeps_the_leader() -> None:
    group = forming("a", "b").when(cancels("b"))
    group.then("seat_released b CANCELLED", "release_requested b CANCELLED")
    assert group.state.leader == "a"


def test_a_group_without_orders_stays_open_until_its_deadline() -> None:
    group = given(opens("a")).when(cancels("a"))
    group.when(joins("b")).then("seat_reserved b").when(authorised("b")).then(
        "member_confirmed b 1", "leader_changed b"
    )
    assert group.due == WINDOW


def test_a_cancel_before_its_order_is_remembered() -> None:
    group = given(opens("a")).when(cancels("b")).then("seat_refused b CANCELLED")
    group.when(cancels("b"), joins("b"), joins("b")).then_nothing()
    assert group.state.seats_left == 3


def test_a_leaders_cancel_before_its_order_opens_no_group() -> None:
    group = given(cancels("a")).then("seat_refused a CANCELLED").when(opens("a")).then_nothing()
    group.when(joins("b")).then("seat_refused b GROUP_UNKNOWN")


def test_a_cancel_after_completion_is_refused_once() -> None:
    group = forming("a", "b").when(tick(), at=WINDOW)
    group.when(cancels("a")).then("cancel_refused a SETTLING").when(cancels("a")).then_nothing()
    group.when(captured("a", 900)).then("member_settled a 900").when(cancels("a")).then_nothing()
    group.when(captured("b", 900)).when(cancels("b")).then("cancel_refused b SETTLED")
    group.when(cancels("b")).then_nothing()


@pytest.mark.parametrize(
    ("ending", "at", "status", "reason"),
    [
        ((declined("b"),), 0, OrderStatus.HOLD_DECLINED, "DECLINED"),
        ((tick(),), HOLD_WINDOW, OrderStatus.LAPSED, "LAPSED"),
        ((cancel_group(),), 0, OrderStatus.RELEASED, "RELEASED"),
        ((rejected("x"),), 0, OrderStatus.REFUSED, "REFUSED"),
    ],
)
def test_a_cancel_of_an_ended_order_is_refused_once(
    ending: tuple[bytes, ...], at: int, status: OrderStatus, reason: str
) -> None:
    order = "x" if status is OrderStatus.REFUSED else "b"
    group = given(opens("a"), joins("b")).when(*ending, at=at)
    assert group.state.status(order) is status
    group.when(cancels(order)).then(f"cancel_refused {order} {reason}").when(cancels(order)).then_nothing()


def test_a_cancel_after_a_declined_capture_keeps_its_reason_in_the_log() -> None:
    group = forming("a", "b").when(tick(), at=WINDOW).when(capture_declined("b"))
    assert group.state.status("b") is OrderStatus.CAPTURE_DECLINED
    group.when(cancels("b")).then("cancel_refused b FAILED")


def test_a_cancel_in_the_millisecond_of_the_deadline_comes_too_late() -> None:
    group = forming("a", "b").when(cancels("b"), at=WINDOW)
    assert [line.split()[0] for line in group.of("b")] == ["settlement_requested", "cancel_refused"]
    group = forming("a", "b").when(cancels("b"), at=WINDOW - 1)
    group.then("seat_released b CANCELLED", "release_requested b CANCELLED")


def test_an_undecodable_order_is_refused_once() -> None:
    group = given(opens("a")).when(rejected("b")).then("seat_refused b UNREADABLE")
    group.when(rejected("b"), joins("b")).then_nothing()
    group.when(rejected("a")).then_nothing()
    assert group.state.status("a") is OrderStatus.RESERVED


def test_a_solo_purchase_expires_with_its_only_seat() -> None:
    solo = opens("a", campaign(), solo=True)
    given(solo).when(cancels("a")).then("seat_released a CANCELLED", "release_requested a CANCELLED", "expired 0")
    given(solo).when(declined("a")).then("seat_released a DECLINED", "expired 0")
    given(solo).when(tick(), at=HOLD_WINDOW).then("seat_released a LAPSED", "release_requested a LAPSED", "expired 0")
