"""Mutants are planted, found and undone, and refused if their text is gone. `make mutants` hunts all of them."""

from __future__ import annotations

import inspect

import pytest

from services.groups.domain import closing
from services.groups.domain.pricing import tier_at
from tests.simulation.mutants.catalogue import MUTANTS
from tests.simulation.mutants.planting import StaleMutant, mutant, planted
from tests.simulation.mutants.run import failure, hunt


def test_a_planted_bug_is_found_and_is_gone_afterwards() -> None:
    code = tier_at.__code__
    found = hunt(MUTANTS["count_equals_need"], 50)
    assert found.caught_by
    assert tier_at.__code__ is code
    assert not failure(found.seeds - 1)


def test_every_mutant_can_be_planted_and_undone() -> None:
    for bug in MUTANTS.values():
        before = [edit.function.__code__ for edit in bug.edits]
        with planted(bug):
            assert [edit.function.__code__ for edit in bug.edits] != before, bug.name
        assert [edit.function.__code__ for edit in bug.edits] == before, bug.name


def test_a_mutant_whose_line_is_gone_is_refused_and_changes_nothing() -> None:
    source = inspect.getsource(closing.release_seat)
    stale = mutant(
        "stale", "nothing", (tier_at, "tier.members > members", "False"), (closing.release_seat, "not there", "False")
    )
    code = tier_at.__code__
    with pytest.raises(StaleMutant), planted(stale):
        raise AssertionError("planted all the same")
    assert tier_at.__code__ is code
    assert inspect.getsource(closing.release_seat) == source
