"""The expected cost of kept prices is that of all ways in which captures can fail, weighted by their chances."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from groupbuy.groups.v1.campaigns_pb2 import Tier

from ops.log.rerun.compared import Compared, figures
from ops.log.rerun.expected_cost import expected_cost_of_a_piece
from ops.log.rerun.simulated import Outcome
from services.groups.domain.pricing import kept_price_cost
from services.groups.domain.terms import Terms, freeze, terms_of
from tests.scenarios.groups import campaign


def terms(solo: bool = False, **changes: Any) -> Terms:
    ladder = [Tier(members=members, unit_price_minor=price) for members, price in ((2, 900), (3, 800), (5, 600))]
    return terms_of(freeze(campaign(tiers=ladder, capacity=10, **changes), solo).SerializeToString())


def by_all_ways(of: Terms, price: int, pieces: list[int], share: float) -> float:
    expected = 0.0
    for charged in product((True, False), repeat=len(pieces)):
        chance = 1.0
        for one in charged:
            chance *= 1 - share if one else share
        bought = sum(quantity for quantity, one in zip(pieces, charged, strict=True) if one)
        expected += chance * kept_price_cost(of, price, sum(charged), bought)
    return expected


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99, 1.0])
@pytest.mark.parametrize(("price", "pieces"), [(900, [1, 1]), (800, [1, 2, 5]), (600, [3, 1, 1, 7, 2, 1])])
def test_the_cost_is_that_of_all_ways_to_fail(price: int, pieces: list[int], share: float) -> None:
    each = expected_cost_of_a_piece(terms(), price, len(pieces), share)
    assert each * sum(pieces) == pytest.approx(by_all_ways(terms(), price, pieces, share))


def test_the_chances_of_a_large_group_add_up() -> None:
    """600 is the price of five and more: with 2,000 members it stays, however unlucky one is."""
    assert expected_cost_of_a_piece(terms(), 600, 2_000, 0.1) == pytest.approx(0, abs=1e-9)
    # Half of the members fail: nearly all groups of 2,000 stay above the last tier of 900.
    last = [Tier(members=2, unit_price_minor=900), Tier(members=900, unit_price_minor=500)]
    large = terms_of(freeze(campaign(tiers=last, capacity=2_000), False).SerializeToString())
    assert expected_cost_of_a_piece(large, 500, 2_000, 0.5) == pytest.approx(0, abs=0.01)
    assert expected_cost_of_a_piece(large, 500, 2_000, 0.6) == pytest.approx(400 * 0.4, abs=0.01)


def test_a_solo_purchase_has_no_cost() -> None:
    assert expected_cost_of_a_piece(terms(solo=True), 1_000, 1, 0.5) == 0


def test_the_cost_is_shown_with_a_share_only() -> None:
    outcome = Outcome(terms=terms(), unit_price_minor=800, members=3, members_pieces=8)
    assert "failed_captures" not in figures(Compared())
    compared = Compared(failed_captures=0.5)
    compared.expect(outcome, Outcome())
    shown = figures(compared)
    assert shown["failed_captures"] == 0.5
    # With three members: two are charged in 3 of 8 ways and one in 3 of 8, both at a difference of 100 a piece.
    expected = 100 * 8 * (3 / 8 * 2 / 3 + 3 / 8 * 1 / 3)
    assert shown["was"]["expected_kept_price_cost_minor"] == {"EUR": round(expected)}
    assert shown["would_be"]["expected_kept_price_cost_minor"] == {}
