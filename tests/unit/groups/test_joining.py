"""A join gets a seat, a place in the waitlist, or a refusal with its reason."""

from __future__ import annotations

import pytest

from services.groups.domain.model import OrderStatus
from services.groups.domain.on_order_event import MAX_WAITLIST
from tests.scenarios.groups import (
    HOLD_WINDOW,
    MINUTE,
    START_MS,
    WINDOW,
    authorised,
    campaign,
    cancel_group,
    cancels,
    declined,
    forming,
    given,
    joins,
    opens,
    tick,
)

WAITING = campaign(capacity=3, waitlist=True)


def test_a_friend_has_a_seat_from_the_moment_of_joining() -> None:
    group = given(opens("a")).when(joins("b"), at=MINUTE).then("seat_reserved b")
    assert group.events[0].seat_reserved.reserved_until_ms == START_MS + MINUTE + HOLD_WINDOW
    assert group.state.seats_left == 2


def test_a_duplicate_join_changes_nothing_with_any_payload() -> None:
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


def test_a_join_at_the_limits_of_the_terms_is_accepted() -> None:
    given(opens("a")).when(joins("b", quantity=5, max_unit_price_minor=900)).then("seat_reserved b")


def test_a_refused_join_tells_how_the_group_closed() -> None:
    forming("a", "b").when(tick(), at=WINDOW).when(joins("c")).then("seat_refused c GROUP_COMPLETED")
    given(opens("a")).when(tick(), at=WINDOW).when(joins("c")).then("seat_refused c GROUP_EXPIRED")
    given(opens("a")).when(cancel_group()).when(joins("c")).then("seat_refused c GROUP_CANCELLED")


def test_a_solo_purchase_can_not_be_joined() -> None:
    given(opens("a", solo=True)).when(joins("b")).then("seat_refused b NOT_OPEN_TO_JOIN")


def test_a_customer_has_the_seats_of_the_terms_and_may_join_again() -> None:
    group = given(opens("a", campaign(seats_per_customer=2), customer="ann"))
    group.when(joins("b", customer="ann")).then("seat_reserved b")
    group.when(joins("c", customer="ann")).then("seat_refused c ALREADY_MEMBER")
    group.when(authorised("b"), cancels("b")).when(joins("d", customer="ann")).then("seat_reserved d")
    group.when(declined("d")).when(joins("e", customer="ann")).then("seat_reserved e")
    group.when(joins("f", customer="ann")).then("seat_refused f ALREADY_MEMBER")


def test_a_place_in_the_waitlist_counts_as_the_customers_seat() -> None:
    group = given(opens("a", WAITING), joins("b"), joins("c")).when(joins("d", customer="dan"))
    group.then("seat_waitlisted d").when(joins("e", customer="dan")).then("seat_refused e ALREADY_MEMBER")
    group.when(cancels("d")).when(joins("f", customer="dan")).then("seat_waitlisted f")


def test_a_waitlisted_order_gets_the_next_free_seat() -> None:
    group = given(opens("a", WAITING), joins("b"), joins("c")).when(joins("d", quantity=2), at=MINUTE)
    group.then("seat_waitlisted d").when(joins("d")).then_nothing()
    group.when(cancels("b"), at=2 * MINUTE)
    group.then("seat_released b CANCELLED", "release_requested b CANCELLED", "seat_reserved d")
    seat = group.events[-1].seat_reserved
    assert (seat.customer, seat.hold_amount_minor, seat.payment_method) == ("customer of d", 1_800, "card_ok")
    assert seat.request_sha256 == b"d"
    assert seat.reserved_until_ms == START_MS + 2 * MINUTE + HOLD_WINDOW


def test_the_waitlist_is_first_come_first_served() -> None:
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
    [
        (tick(), WINDOW, "GROUP_EXPIRED"),
        (cancel_group(), 0, "GROUP_CANCELLED"),
        (authorised("c"), 0, "GROUP_COMPLETED"),
    ],
)
def test_closing_releases_the_waitlist_without_a_return_of_funds(closing: bytes, at: int, reason: str) -> None:
    paid = (authorised("a"), authorised("b")) if reason == "GROUP_COMPLETED" else (authorised("a"),)
    group = given(opens("a", WAITING), joins("b"), joins("c"), joins("d"), *paid).when(closing, at=at)
    assert group.of("d") == [f"seat_released d {reason}"]
