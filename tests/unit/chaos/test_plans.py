from __future__ import annotations

from collections import Counter

import pytest

from eventlog.core.partitioner import partition_of
from services.orders.domain.ids import group_id
from tests.chaos import poison, run
from tests.chaos.kernel import part, stalls
from tests.chaos.product import Outages


def test_the_long_form_of_the_kernel_part_has_all_kinds_of_faults() -> None:
    planned = part.fault_plan(30 * 60, seed=1)
    assert planned.kills >= 100
    assert planned.freezes >= 10
    assert planned.broker_restarts >= 5
    assert Counter(what for _, what in planned.schedule()) == {
        "kill": planned.kills,
        "freeze": planned.freezes,
        "double": planned.doubles,
        "broker": planned.broker_restarts,
    }
    assert planned.facts <= part.MAX_FACTS


def test_the_short_form_of_the_kernel_part_has_the_documented_numbers() -> None:
    planned = part.fault_plan(150, seed=1)
    assert (planned.facts, planned.aggregates, planned.kills, planned.freezes) == (200_000, 20_100, 30, 5)
    assert (planned.doubles, planned.broker_restarts) == (3, 2)


def test_every_lost_collector_is_scheduled() -> None:
    assert Counter(what for _, what in stalls.fault_plan(30.0, 1, mutes=6).schedule()) == {"kill": 1, "mute": 6}


def test_the_broker_is_killed_after_each_third_of_the_time() -> None:
    outages = Outages(100.0, 30.0)
    due = [second for second in range(100, 150) if outages.due(float(second))]
    assert due == [110, 120, 130, 140]


@pytest.mark.parametrize("partition", range(poison.PARTITIONS))
def test_an_order_can_be_placed_in_each_partition(partition: int) -> None:
    assert partition_of(group_id(*poison.in_partition(partition)), poison.PARTITIONS) == partition


def test_figures_are_added_up_and_one_inexact_part_makes_the_run_inexact() -> None:
    parts = [
        run.Part("a", "", 0.5, lambda seconds, seed: ({"kills": int(seconds), "threads_violations": 1}, True)),
        run.Part("b", "", 1.0, lambda seconds, seed: ({"kills": 2, "books_equal": False}, False)),
    ]
    found, good = run.run(parts, 1, 1, lambda line: None)
    assert not good
    assert (found["kills"], found["threads_violations"], found["books_equal"]) == (32, 1, False)
