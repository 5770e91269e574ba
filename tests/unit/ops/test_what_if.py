"""Goal: what-if changes nothing where nothing is changed, and otherwise tells what the rules would have made of it.

Method: whole evenings by the production rules, with repeats, late copies and lost answers, decided anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Tier

from ops.errors import OpsError
from ops.log.what_if import Compared, WhatIf, changing
from shared_kernel.topics import GROUP_INBOX, GROUP_LOG
from tests.unit.ops.evening import World


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(250, 7, tmp_path_factory.mktemp("books"))
    world.run()
    return world


def supposed(
    world: World, *, campaign: str = "", tiers: tuple[Tier, ...] = (), begins_at: int = 0, **fields: Any
) -> Compared:
    played, found = WhatIf(changing(campaign, list(tiers), 0, fields)), Compared()
    for spec in (GROUP_LOG, GROUP_INBOX):
        records = world.topics[spec.name]
        kept = [one for one in records if spec is GROUP_LOG or one.offset >= begins_at]
        # In portions, as a reader gives them.
        for at in range(0, len(kept), 333):
            played.take(spec.name, kept[at : at + 333])
    played.finish(found, begins_at)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_without_a_change_every_group_ends_as_it_did(seed: int, tmp_path: Path) -> None:
    world = World(120, seed, tmp_path)
    world.run()
    found = supposed(world)
    assert found.groups == len(world.evening.parties)
    assert found.was.completed > 0
    assert found.would_be == found.was
    assert (found.different, found.assumed, found.left_out) == (0, 0, 0)


def test_cheaper_tiers_capture_less_from_the_same_members(evening: World) -> None:
    found = supposed(
        evening, tiers=(Tier(members=2, unit_price_minor=100),), leader_discount_minor=0, house_fill_members=0
    )
    assert found.would_be.settled >= found.was.settled
    assert found.would_be.captured["CNY"] < found.was.captured["CNY"]
    assert found.different > 0


def test_a_ladder_that_nobody_reaches_lets_all_groups_go(evening: World) -> None:
    found = supposed(evening, tiers=(Tier(members=9, unit_price_minor=1_000),), capacity=9, leader_discount_minor=0)
    assert found.would_be.completed < found.was.completed
    assert found.would_be.expired > found.was.expired
    assert found.would_be.let_go > found.was.let_go


def test_a_house_that_fills_up_completes_groups_that_fell_short(evening: World) -> None:
    found = supposed(evening, house_fill_members=1)
    assert found.would_be.completed > found.was.completed
    assert found.would_be.expired < found.was.expired
    assert found.would_be.let_go < found.was.let_go
    assert found.would_be.captured["CNY"] > found.was.captured["CNY"]


def test_more_seats_hold_those_who_were_turned_away_and_say_how_many_are_only_taken_to_pay(evening: World) -> None:
    found = supposed(evening, capacity=100)
    assert found.would_be.refused < found.was.refused
    assert found.assumed > 0


def test_one_campaign_alone_can_be_changed(evening: World) -> None:
    named = evening.evening.offers[0].id
    one = supposed(evening, campaign=f"campaigns/{named}", leader_discount_minor=5)
    everything = supposed(evening, leader_discount_minor=5)
    assert 0 < one.different < everything.different


def test_a_shorter_window_lets_more_groups_go(evening: World) -> None:
    found = supposed(evening, window=Duration(nanos=100_000_000), hold_window=Duration(nanos=100_000_000))
    assert found.would_be.settled < found.was.settled


def test_groups_whose_first_input_is_gone_are_left_out(evening: World) -> None:
    found = supposed(evening, begins_at=len(evening.topics[GROUP_INBOX.name]) // 2)
    assert found.left_out > 0
    assert found.groups + found.left_out == len(evening.evening.parties)


def test_terms_that_make_no_sense_are_refused_with_what_is_wrong(evening: World) -> None:
    with pytest.raises(OpsError, match="can't be so: tiers"):
        supposed(evening, tiers=(Tier(members=5, unit_price_minor=10), Tier(members=2, unit_price_minor=5)))
