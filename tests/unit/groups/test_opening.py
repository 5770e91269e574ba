"""A leader's order opens a group or is refused with its reason."""

from __future__ import annotations

from typing import Any

import pytest
from groupbuy.groups.v1.campaigns_pb2 import Campaign, Tier
from groupbuy.groups.v1.decisions_pb2 import SeatReserved

from services.groups.domain.model import OrderStatus, Phase
from tests.scenarios.facts import duration
from tests.scenarios.groups import DAY, HOLD_WINDOW, SOLO, START_MS, WINDOW, campaign, given, joins, opens, placed, tick


def reservation(*, offer: Campaign | None = None, **changes: Any) -> SeatReserved:
    return given(opens("a", offer, **changes)).events[-1].seat_reserved


def test_the_leader_opens_the_group_and_has_the_first_seat() -> None:
    group = given(opens("a")).then("opened a", "seat_reserved a")
    assert group.state.phase is Phase.FORMING
    assert group.state.leader == "a"


def test_the_campaigns_terms_are_frozen_with_their_defaults() -> None:
    offer = campaign(max_quantity=0, leader_discount_minor=5, waitlist=True)
    opened = given(opens("a", offer)).events[0].opened
    assert opened.deadline_ms == START_MS + WINDOW
    assert opened.leader_customer == "customer of a"
    terms = opened.terms
    assert (terms.campaign, terms.product, terms.currency) == ("mug", "mug-1", "EUR")
    assert (terms.seats_per_customer, terms.max_quantity, terms.rules_version) == (1, 99, 1)
    assert (terms.window_ms, terms.hold_window_ms, terms.capacity) == (WINDOW, HOLD_WINDOW, 4)
    assert (terms.leader_discount_minor, terms.waitlist, terms.campaign_revision) == (5, True, 1)
    assert list(terms.tiers) == list(offer.tiers)


def test_the_reservation_has_all_fields_that_payments_needs() -> None:
    seat = reservation(quantity=3)
    assert (seat.hold_amount_minor, seat.currency, seat.payment_method) == (2_700, "EUR", "card_ok")
    assert seat.reserved_until_ms == START_MS + HOLD_WINDOW
    assert seat.hold_until_ms == START_MS + WINDOW + DAY
    assert seat.request_sha256 == b"a"


def test_a_seat_is_never_reserved_beyond_the_deadline() -> None:
    seat = reservation(offer=campaign(hold_window=duration(WINDOW + 1)))
    assert seat.reserved_until_ms == START_MS + WINDOW


def test_a_duplicate_order_changes_nothing() -> None:
    given(opens("a")).when(opens("a")).then_nothing()


def test_the_same_order_with_another_payload_changes_nothing() -> None:
    given(opens("a")).when(opens("a", quantity=2, request_sha256=b"other")).then_nothing()


def test_an_order_for_an_unknown_campaign_is_refused_and_remembered() -> None:
    group = given(placed("a", opens_group=True)).then("seat_refused a CAMPAIGN_UNKNOWN")
    assert group.state.phase is Phase.UNOPENED
    group.when(opens("a")).then_nothing()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"campaign": "cup"}, "CAMPAIGN_MISMATCH"),
        ({"currency": "USD"}, "CURRENCY_MISMATCH"),
        ({"quantity": 0}, "QUANTITY"),
        ({"quantity": -1}, "QUANTITY"),
        ({"quantity": 6}, "QUANTITY"),
        ({"max_unit_price_minor": 899}, "PRICE_CHANGED"),
        ({"solo": True, "max_unit_price_minor": SOLO - 1}, "PRICE_CHANGED"),
    ],
)
def test_an_order_against_the_terms_is_refused(changes: dict[str, Any], reason: str) -> None:
    group = given(opens("a", **changes)).then(f"seat_refused a {reason}")
    assert group.state.phase is Phase.UNOPENED
    assert group.state.status("a") is OrderStatus.REFUSED
    assert group.due is None


@pytest.mark.parametrize("changes", [{"quantity": 1}, {"quantity": 5}, {"max_unit_price_minor": 900}])
def test_an_order_at_the_limits_of_the_terms_is_accepted(changes: dict[str, Any]) -> None:
    given(opens("a", **changes)).then("opened a", "seat_reserved a")


def test_an_archived_campaign_opens_no_group() -> None:
    given(opens("a", campaign(archived=True))).then("seat_refused a CAMPAIGN_ARCHIVED")


def test_invalid_terms_open_no_group() -> None:
    upside_down = [Tier(members=2, unit_price_minor=800), Tier(members=3, unit_price_minor=900)]
    given(opens("a", campaign(tiers=upside_down))).then("seat_refused a TERMS_INVALID")


def test_a_join_of_a_group_whose_leader_was_refused_is_refused() -> None:
    group = given(placed("a", opens_group=True))
    group.when(joins("b")).then("seat_refused b GROUP_UNKNOWN").when(joins("b")).then_nothing()


def test_a_join_before_its_group_is_refused_but_the_group_may_still_open() -> None:
    given(joins("b")).then("seat_refused b GROUP_UNKNOWN").when(opens("a")).then("opened a", "seat_reserved a")


def test_a_second_leader_is_refused_in_every_phase() -> None:
    group = given(opens("a")).when(opens("z")).then("seat_refused z NOT_OPEN_TO_JOIN")
    group.when(tick(), at=WINDOW).when(opens("y")).then("seat_refused y NOT_OPEN_TO_JOIN")


def test_later_edits_of_the_campaign_do_not_touch_a_group() -> None:
    group = given(opens("a"))
    group.when(placed("b", offer=campaign(capacity=2, currency="USD", revision=2))).then("seat_reserved b")
    assert group.state.frozen.capacity == 4
