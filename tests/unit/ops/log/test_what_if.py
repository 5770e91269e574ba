"""what-if: without a change the outcomes are the actual ones, with a change those of the rules.

Method: whole evenings by the production rules, with duplicates, late copies and lost responses, decided again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, Tier

from ops.errors import CANNOT_RUN, OpsError
from ops.log.rerun import what_if
from ops.log.rerun.compared import Compared
from ops.log.rerun.what_if import WhatIf, changing
from shared_kernel.topics import GROUP_INBOX, GROUP_LOG
from tests.unit.ops.simulated_system import SimulatedSystem


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> SimulatedSystem:
    system = SimulatedSystem(250, 7, tmp_path_factory.mktemp("books"))
    system.run()
    return system


def simulated(
    system: SimulatedSystem, *, campaign: str = "", tiers: tuple[Tier, ...] = (), begins_at: int = 0, **fields: Any
) -> Compared:
    played, found = WhatIf(changing(campaign, list(tiers), 0, fields)), Compared()
    for spec in (GROUP_LOG, GROUP_INBOX):
        records = system.topics[spec.name]
        kept = [one for one in records if spec is GROUP_LOG or one.offset >= begins_at]
        # In batches, as a reader returns them.
        for at in range(0, len(kept), 333):
            played.take(spec.name, kept[at : at + 333])
    played.finish(found, begins_at)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_without_a_change_every_group_has_its_actual_outcome(seed: int, tmp_path: Path) -> None:
    system = SimulatedSystem(120, seed, tmp_path)
    system.run()
    found = simulated(system)
    assert found.groups == len(system.evening.parties)
    assert found.was.completed > 0
    assert found.would_be == found.was
    assert (found.different, found.assumed, found.left_out) == (0, 0, 0)


def test_cheaper_tiers_capture_less_from_the_same_members(evening: SimulatedSystem) -> None:
    found = simulated(
        evening, tiers=(Tier(members=2, unit_price_minor=100),), leader_discount_minor=0, house_fill_members=0
    )
    assert found.would_be.settled >= found.was.settled
    assert found.would_be.captured["CNY"] < found.was.captured["CNY"]
    assert found.different > 0


def test_tiers_that_no_group_reaches_expire_more_groups(evening: SimulatedSystem) -> None:
    found = simulated(evening, tiers=(Tier(members=9, unit_price_minor=1_000),), capacity=9, leader_discount_minor=0)
    assert found.would_be.completed < found.was.completed
    assert found.would_be.expired > found.was.expired
    assert found.would_be.released > found.was.released


def test_virtual_completion_completes_groups_that_expired(evening: SimulatedSystem) -> None:
    found = simulated(evening, house_fill_members=1)
    assert found.would_be.completed > found.was.completed
    assert found.would_be.expired < found.was.expired
    assert found.would_be.released < found.was.released
    assert found.would_be.captured["CNY"] > found.was.captured["CNY"]


def test_more_seats_admit_refused_orders_and_count_those_that_are_assumed_to_pay(evening: SimulatedSystem) -> None:
    found = simulated(evening, capacity=100)
    assert found.would_be.refused < found.was.refused
    assert found.assumed > 0


def test_the_change_of_one_campaign_changes_only_its_groups(evening: SimulatedSystem) -> None:
    named = evening.evening.offers[0].id
    one = simulated(evening, campaign=f"campaigns/{named}", leader_discount_minor=5)
    everything = simulated(evening, leader_discount_minor=5)
    assert 0 < one.different < everything.different


def test_a_shorter_window_settles_fewer_orders(evening: SimulatedSystem) -> None:
    found = simulated(evening, window=Duration(nanos=100_000_000), hold_window=Duration(nanos=100_000_000))
    assert found.would_be.settled < found.was.settled


def test_groups_without_their_first_input_are_omitted(evening: SimulatedSystem) -> None:
    found = simulated(evening, begins_at=len(evening.topics[GROUP_INBOX.name]) // 2)
    assert found.left_out > 0
    assert found.groups + found.left_out == len(evening.evening.parties)


def test_invalid_terms_are_refused_with_the_reason(evening: SimulatedSystem) -> None:
    with pytest.raises(OpsError, match=r"invalid terms for .*: tiers"):
        simulated(evening, tiers=(Tier(members=5, unit_price_minor=10), Tier(members=2, unit_price_minor=5)))


@pytest.mark.parametrize("text", ["2", "2:", "2:-1", "x:1", "\u00b2:1", "2:" + "9" * 30, "9" * 30 + ":1"])
def test_a_tier_that_no_campaign_can_have_cannot_run(text: str) -> None:
    with pytest.raises(OpsError, match="is not a tier") as caught:
        what_if._tier(text)
    assert caught.value.exit_code == CANNOT_RUN


def test_a_number_that_its_field_cannot_have_cannot_run() -> None:
    offer = Campaign(name="campaigns/mug")
    with pytest.raises(OpsError, match=r"leader_discount_minor: 9+ is out of range"):
        what_if.changing("", [], 0, {"leader_discount_minor": int("9" * 30)})(offer)
