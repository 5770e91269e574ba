"""Random sales with crashes, stale owners, repeats and reorderings never oversell, and every piece comes home.

`python -m tests.simulation.stock_histories` plays thousands of them and hunts every planted bug; these are a sample.
"""

from __future__ import annotations

import pytest

from tests.simulation.mutants.inventory import INVENTORY
from tests.simulation.mutants.planting import Mutant
from tests.simulation.stock_histories import failure, hunt

SEEDS = 40
#: Bugs that the first seeds find. The others need hundreds.
QUICK = (
    "group_takes_repeated_grants",
    "idle_pieces_kept",
    "sold_returned",
    "lease_beyond_free",
    "gate_passed",
    "cancelled_uses_allowance",
)


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_a_sale_keeps_its_books(first: int) -> None:
    assert [failure(seed) for seed in range(first, first + 10)] == [""] * 10


@pytest.mark.parametrize("bug", [one for one in INVENTORY if one.name in QUICK], ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Mutant) -> None:
    seeds, caught_by = hunt(bug, SEEDS)
    assert caught_by, f"{seeds} seeds do not find it"


def test_every_bug_has_its_own_name() -> None:
    names = [bug.name for bug in INVENTORY]
    assert len(names) == len(set(names))
    assert set(QUICK) <= set(names)
