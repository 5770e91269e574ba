"""Friends join: a seat, a place in the waitlist, or a refusal with the reason that fits."""

from __future__ import annotations

import pytest

from services.groups.domain.model import OrderStatus
from services.groups.domain.on_order_event import MAX_WAITLIST
from tests.unit.groups.given import (
    HOLD_WINDOW,
    MINUTE,
    T0,
    WINDOW,
    campaign,
    cancel_group,
    cancels,
    declined,
    forming,
    given,
    joins,
    opens,
    pays,
    tick,
)

WAITING = campaign(capacity=3, waitlist=True)


def test_a_friend_has_a_seat_from_the_moment_of_joining() -> None:
    group = given(opens("a")).when(joins("b"), at=MINUTE).then("seat_reserved b")
    assert group.last[0].seat_reserved.reserved_until_ms == T0 + MINUTE + HOLD_WINDOW
    assert group.state.seats_left == 2


def test_the_same_join_again_changes_nothing_whatever_its_payload() -> None:
    group = given(opens("a"), joins("b")).when(joins("b")).then_nothing()
    group.when(joins("b", quantity=2, request_sha256=b"other")).then_nothing()


def test_a_full_group_refuses_without_a_waitlist() -> None:
    group = given(opens("a"), joins("b"), joins("c")).when(joins("d")).then("seat_reserved d")
    group.when(joins("e")).then("seat_refused e GROUP_FULL")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"campaign": "cup"}, "CAMPAIGN_MISMATCH"),
        ({"currency": "USD"}, "CURRENCY_MISMATCH"),
        ({"quantity": 0}, "QUANTITY"),
        ({"quantity": 6}, "QUANTITY"),
        ({"max_unit_price_minor": 899}, "PRICE_CHANGED"),
        ({"customer": "customer of a"}, "ALREADY_MEMBER"),
    ],
)
def test_a_join_against_the_terms_is_refused(changes: dict[str, object], reason: str) -> None:
    given(opens("a")).when(joins("b", **changes)).then(f"seat_refused b {reason}")


def test_a_join_at_the_edge_of_the_terms_is_taken() -> None:
    given(opens("a")).when(joins("b", quantity=5, max_unit_price_minor=900)).then("seat_reserved b")


def test_a_closed_group_says_how_it_closed() -> None:
    forming("a", "b").when(tick(), at=WINDOW).when(joins("c")).then("seat_refused c GROUP_COMPLETED")
    given(opens("a")).when(tick(), at=WINDOW).when(joins("c")).then("seat_refused c GROUP_EXPIRED")
    given(opens("a")).when(cancel_group()).when(joins("c")).then("seat_refused c GROUP_CANCELLED")


def test_nobody_joins_a_solo_purchase() -> None:
    given(opens("a", solo=True)).when(joins("b")).then("seat_refused b NOT_OPEN_TO_JOIN")


def test_a_customer_has_as_many_seats_as_the_terms_allow_and_may_come_back() -> None:
    group = given(opens("a", campaign(seats_per_customer=2), customer="ann"))
    group.when(joins("b", customer="ann")).then("seat_reserved b")
    group.when(joins("c", customer="ann")).then("seat_refused c ALREADY_MEMBER")
    group.when(pays("b"), cancels("b")).when(joins("d", customer="ann")).then("seat_reserved d")
    group.when(declined("d")).when(joins("e", customer="ann")).then("seat_reserved e")
    group.when(joins("f", customer="ann")).then("seat_refused f ALREADY_MEMBER")


def test_a_place_in_the_waitlist_counts_as_the_customers_seat() -> None:
    group = given(opens("a", WAITING), joins("b"), joins("c")).when(joins("d", customer="dan"))
    group.then("seat_waitlisted d").when(joins("e", customer="dan")).then("seat_refused e ALREADY_MEMBER")
    group.when(cancels("d")).when(joins("f", customer="dan")).then("seat_waitlisted f")


def test_a_joiner_without_a_seat_waits_for_one_that_falls_free() -> None:
    group = given(opens("a", WAITING), joins("b"), joins("c")).when(joins("d", quantity=2), at=MINUTE)
    group.then("seat_waitlisted d").when(joins("d")).then_nothing()
    group.when(cancels("b"), at=2 * MINUTE)
    group.then("seat_released b CANCELLED", "release_requested b CANCELLED", "seat_reserved d")
    seat = group.last[-1].seat_reserved
    assert (seat.customer, seat.hold_amount_minor, seat.payment_method) == ("customer of d", 1_800, "card_ok")
    assert seat.request_sha256 == b"d"
    assert seat.reserved_until_ms == T0 + 2 * MINUTE + HOLD_WINDOW


def test_the_waitlist_is_served_in_the_order_of_coming() -> None:
    group = given(opens("a", WAITING), joins("b"), joins("c"), joins("d"), joins("e"), joins("f"))
    group.when(cancels("d")).then("seat_released d CANCELLED")
    group.when(declined("c")).then("seat_released c DECLINED", "seat_reserved e")
    assert group.state.status("f") is OrderStatus.WAITLISTED


def test_the_waitlist_is_as_long_as_the_largest_group() -> None:
    group = given(opens("a", WAITING), joins("b"), joins("c"))
    group.when(*(joins(f"w{number}") for number in range(MAX_WAITLIST)))
    group.when(joins("late")).then("seat_refused late GROUP_FULL")


@pytest.mark.parametrize(
    ("closing", "at", "reason"),
    [(tick(), WINDOW, "GROUP_EXPIRED"), (cancel_group(), 0, "GROUP_CANCELLED"), (pays("c"), 0, "GROUP_COMPLETED")],
)
def test_whoever_waits_is_let_go_when_the_group_closes_and_no_money_is_asked_back(
    closing: bytes, at: int, reason: str
) -> None:
    paid = (pays("a"), pays("b")) if reason == "GROUP_COMPLETED" else (pays("a"),)
    group = given(opens("a", WAITING), joins("b"), joins("c"), joins("d"), *paid).when(closing, at=at)
    assert group.of("d") == [f"seat_released d {reason}"]
