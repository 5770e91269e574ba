"""Validation and freezing of terms. The same validation runs for a new campaign and for an opening order."""

from __future__ import annotations

from typing import Any

import pytest
from groupbuy.errors.v1.errors_pb2 import ErrorReason
from groupbuy.groups.v1.campaigns_pb2 import (
    CLOSE_POLICY_AT_DEADLINE,
    CLOSE_POLICY_WHEN_FULL,
    FAILED_CAPTURE_POLICY_KEEP_PRICE,
    Tier,
)

from services.groups.domain.pricing import capture_amount, hold_amount, tier_at
from services.groups.domain.terms import (
    AMOUNT_OVERFLOW,
    INVALID_FIELDS,
    TIERS_NOT_MONOTONIC,
    WINDOW_TOO_LONG,
    Terms,
    UnknownRules,
    freeze,
    milliseconds,
    problems,
    terms_of,
)
from tests.scenarios.facts import duration
from tests.scenarios.groups import DAY, HOUR, campaign


def tiers(*steps: tuple[int, int]) -> list[Tier]:
    return [Tier(members=members, unit_price_minor=price) for members, price in steps]


def found(**changes: Any) -> list[tuple[str, str]]:
    return [(problem.field, problem.reason) for problem in problems(campaign(**changes))]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tiers": tiers((2, 1))},
        {"tiers": tiers((2, 999), (3, 998), (4, 997))},
        {"tiers": tiers((2000, 900)), "capacity": 2000},
        {"capacity": 3},
        {"window": duration(6 * DAY - 1)},
        {"window": duration(100), "hold_window": duration(100)},
        {"hold_window": duration(DAY)},
        {"house_fill_members": 1},
        {"leader_discount_minor": 799},
        {"seats_per_customer": 100, "max_quantity": 10_000},
        {"close_policy": CLOSE_POLICY_AT_DEADLINE},
        {"failed_capture_policy": FAILED_CAPTURE_POLICY_KEEP_PRICE},
        {"solo_price_minor": 10**12, "max_quantity": 4_611},
    ],
)
def test_valid_terms_have_no_problems(changes: dict[str, Any]) -> None:
    assert found(**changes) == []


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"tiers": tiers((3, 900), (2, 800))}, "tiers[1].members", TIERS_NOT_MONOTONIC),
        ({"tiers": tiers((2, 900), (2, 800))}, "tiers[1].members", TIERS_NOT_MONOTONIC),
        ({"tiers": tiers((2, 800), (3, 900))}, "tiers[1].unit_price_minor", TIERS_NOT_MONOTONIC),
        ({"tiers": tiers((2, 900), (3, 900))}, "tiers[1].unit_price_minor", TIERS_NOT_MONOTONIC),
        ({"tiers": tiers((2, 1_000))}, "tiers[0].unit_price_minor", TIERS_NOT_MONOTONIC),
        ({"tiers": []}, "tiers", INVALID_FIELDS),
        ({"tiers": tiers(*((n + 2, 900 - n) for n in range(21))), "capacity": 30}, "tiers", INVALID_FIELDS),
        ({"tiers": tiers((1, 900))}, "tiers[0].members", INVALID_FIELDS),
        ({"tiers": tiers((2, 0))}, "tiers[0].unit_price_minor", INVALID_FIELDS),
        ({"tiers": tiers((2, -1))}, "tiers[0].unit_price_minor", INVALID_FIELDS),
        ({"capacity": 2}, "capacity", INVALID_FIELDS),
        ({"capacity": 2_001}, "capacity", INVALID_FIELDS),
        ({"capacity": -1}, "capacity", INVALID_FIELDS),
        ({"house_fill_members": 2}, "house_fill_members", INVALID_FIELDS),
        ({"house_fill_members": -1}, "house_fill_members", INVALID_FIELDS),
        ({"leader_discount_minor": 800}, "leader_discount_minor", INVALID_FIELDS),
        ({"leader_discount_minor": -1}, "leader_discount_minor", INVALID_FIELDS),
        ({"seats_per_customer": 101}, "seats_per_customer", INVALID_FIELDS),
        ({"seats_per_customer": -1}, "seats_per_customer", INVALID_FIELDS),
        ({"max_quantity": 10_001}, "max_quantity", INVALID_FIELDS),
        ({"max_quantity": -1}, "max_quantity", INVALID_FIELDS),
        ({"currency": "EUX"}, "currency", INVALID_FIELDS),
        ({"currency": "eur"}, "currency", INVALID_FIELDS),
        ({"currency": ""}, "currency", INVALID_FIELDS),
        ({"product": ""}, "product", INVALID_FIELDS),
        ({"solo_price_minor": 0}, "solo_price_minor", INVALID_FIELDS),
        ({"solo_price_minor": 10**12 + 1}, "solo_price_minor", INVALID_FIELDS),
        ({"close_policy": 7}, "close_policy", INVALID_FIELDS),
        ({"failed_capture_policy": 2}, "failed_capture_policy", INVALID_FIELDS),
        ({"rules_version": -1}, "rules_version", INVALID_FIELDS),
        ({"window": duration(6 * DAY)}, "window", WINDOW_TOO_LONG),
        ({"window": duration(99)}, "window", INVALID_FIELDS),
        ({"window": duration(-HOUR)}, "window", INVALID_FIELDS),
        ({"hold_window": duration(99)}, "hold_window", INVALID_FIELDS),
        ({"hold_window": duration(DAY + 1)}, "hold_window", INVALID_FIELDS),
        ({"solo_price_minor": 10**12, "max_quantity": 4_612}, "max_quantity", AMOUNT_OVERFLOW),
    ],
)
def test_invalid_terms_name_field_and_reason(changes: dict[str, Any], field: str, reason: str) -> None:
    assert (field, reason) in found(**changes)


def test_all_problems_are_reported_at_once() -> None:
    assert len(found(currency="", product="", capacity=-1, tiers=[])) >= 4


def test_the_reasons_are_those_of_the_api() -> None:
    for reason in (INVALID_FIELDS, TIERS_NOT_MONOTONIC, WINDOW_TOO_LONG, AMOUNT_OVERFLOW):
        assert ErrorReason.Value(f"ERROR_REASON_{reason}")


def frozen(solo: bool = False, **changes: Any) -> Terms:
    return terms_of(freeze(campaign(**changes), solo).SerializeToString())


def test_freezing_fills_the_defaults_in() -> None:
    terms = frozen(max_quantity=0)
    assert (terms.seats_per_customer, terms.max_quantity, terms.rules_version) == (1, 99, 1)
    assert terms.closes_when_full
    assert freeze(campaign(), False).close_policy == CLOSE_POLICY_WHEN_FULL
    assert not frozen(close_policy=CLOSE_POLICY_AT_DEADLINE).closes_when_full


def test_the_policy_for_failed_captures_leaves_the_bytes_of_the_terms() -> None:
    """A build that does not know the field freezes the same terms, so a rolling deployment decides the same bytes."""
    kept = campaign(failed_capture_policy=FAILED_CAPTURE_POLICY_KEEP_PRICE)
    for solo in (True, False):
        assert freeze(kept, solo) == freeze(campaign(), solo)


def test_a_solo_purchase_has_no_tiers() -> None:
    offer = {"waitlist": True, "house_fill_members": 1, "leader_discount_minor": 5, "seats_per_customer": 3}
    terms = frozen(solo=True, close_policy=CLOSE_POLICY_AT_DEADLINE, **offer)
    assert (terms.solo, terms.tiers, terms.capacity, terms.entry_price_minor) == (True, (), 1, 1_000)
    assert (terms.waitlist, terms.house_fill_members, terms.leader_discount_minor) == (False, 0, 0)
    assert terms.closes_when_full


def test_terms_of_unknown_rules_raise() -> None:
    with pytest.raises(UnknownRules):
        freeze(campaign(rules_version=99), False)
    message = freeze(campaign(), False)
    message.rules_version = 99
    with pytest.raises(UnknownRules):
        terms_of(message.SerializeToString())


def test_a_duration_is_rounded_down_to_milliseconds() -> None:
    assert milliseconds(duration(1_234)) == 1_234
    shaved = duration(1_234)
    shaved.nanos += 999_999
    assert milliseconds(shaved) == 1_234


@pytest.mark.parametrize(("members", "price"), [(0, None), (1, None), (2, 900), (3, 800), (4, 800)])
def test_the_tier_is_the_last_one_reached(members: int, price: int | None) -> None:
    tier = tier_at(frozen(), members)
    assert (None if tier is None else tier.unit_price_minor) == price


def test_no_amount_of_valid_terms_leaves_64_bits() -> None:
    terms = frozen(solo=True, solo_price_minor=10**12, max_quantity=4_611)
    assert hold_amount(terms, 4_611) * 2_000 < 2**63
    assert capture_amount(frozen(leader_discount_minor=50), 800, 3, is_leader=True) == 2_250
    assert capture_amount(frozen(leader_discount_minor=50), 800, 3, is_leader=False) == 2_400
