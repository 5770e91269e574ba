"""The script of the demo's evening: complete and reproducible."""

from __future__ import annotations

import pytest

from ops.demo.offers import OFFERS, RUSH
from ops.demo.plan import Plot, Role, arrivals_s, plan


def test_the_same_seed_makes_the_same_evening() -> None:
    assert plan(300, 7) == plan(300, 7)
    assert plan(300, 7) != plan(300, 8)


@pytest.mark.parametrize("orders", [1, 2, 59, 60, 61, 500, 2000])
def test_an_evening_has_exactly_the_requested_number_of_orders(orders: int) -> None:
    assert plan(orders, 1).orders == orders


def test_an_evening_without_orders_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        plan(0, 1)


@pytest.mark.parametrize("seed", range(5))
def test_an_evening_of_two_thousand_orders_has_every_plot_and_role(seed: int) -> None:
    evening = plan(2000, seed)
    visits = [visit for party in evening.parties for visit in party.visits]
    assert 250 <= len(evening.parties) <= 450
    assert set(evening.plots()) == set(Plot)
    assert evening.plots()[Plot.RUSH] == 1
    assert {party.offer for party in evening.parties} == set(OFFERS)
    assert any(visit.copies > 1 for visit in visits)
    assert any(visit.cancels_at_s is not None for visit in visits)
    for ending in ("_declined", "_decline_capture"):
        assert any(visit.payment_method.endswith(ending) for visit in visits)
    assert any(visit.payment_method.startswith("wallet_") for visit in visits)
    assert any(
        visit.at_s > party.visits[0].at_s + party.offer.window_s - 1
        for party in evening.parties
        for visit in party.visits
    )
    assert evening.ends_at_s < 80
    assert 0 < evening.kill_at_s < evening.ends_at_s


def test_every_group_has_one_leader_who_comes_first() -> None:
    for party in plan(1000, 3).parties:
        leader, *joiners = party.visits
        assert leader.role is (Role.SOLO if party.plot is Plot.SOLO else Role.LEADS)
        assert all(visit.role is Role.JOINS and visit.at_s >= leader.at_s for visit in joiners)


def test_the_overcrowded_group_has_more_simultaneous_joiners_than_seats() -> None:
    (rush,) = [party for party in plan(2000, 3).parties if party.plot is Plot.RUSH]
    joins = [visit.at_s for visit in rush.visits[1:]]
    assert len(joins) > RUSH.capacity * 2
    assert max(joins) - min(joins) < 0.2


def test_request_ids_are_all_different() -> None:
    visits = [visit for party in plan(2000, 3).parties for visit in party.visits]
    assert len({visit.request_id for visit in visits}) == len(visits)


def test_more_orders_make_a_longer_evening_only_above_a_hundred_per_second() -> None:
    assert arrivals_s(2000) == arrivals_s(6000) == 60
    assert arrivals_s(20_000) == 200
    assert arrivals_s(10) == 12


def test_the_terms_of_every_campaign_are_valid() -> None:
    for offer in OFFERS:
        members = [tier.members for tier in offer.campaign().tiers]
        prices = [offer.solo_price_minor, *(tier.unit_price_minor for tier in offer.campaign().tiers)]
        assert members == sorted(set(members))
        assert prices == sorted(set(prices), reverse=True)
        assert offer.capacity >= members[0]
        assert offer.leader_discount_minor < prices[-1]
