"""what-if with stock items and limits: all groups in one sequence, by the production rules."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.orders.v1.facts_pb2 import OrderFact

from ops.log.rerun.compared import Compared
from ops.log.rerun.sale import Sale
from ops.log.rerun.simulated import Actual, Outcome
from ops.log.rerun.what_if import STOCK, WhatIf, changing
from shared_kernel.topics import GROUP_INBOX, GROUP_LOG
from tests.unit.ops.sales import sale
from tests.unit.ops.simulated_system import SimulatedSystem

EVER = 1 << 60


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> SimulatedSystem:
    system = SimulatedSystem(250, 7, tmp_path_factory.mktemp("books"))
    system.run()
    return system


def played(system: SimulatedSystem, total: int, **fields: Any) -> tuple[Compared, Sale]:
    change = changing("", [], 2, fields)
    one, found = WhatIf(change), Compared()
    for spec in (GROUP_LOG, GROUP_INBOX):
        one.take(spec.name, system.topics[spec.name])
    simulation = Sale(change, lambda key: {STOCK: total}[key])
    end_ms = one.add_to(simulation, found)
    for key, simulated in simulation.run(end_ms).items():
        found.compare(one.actual[key], simulated)
    found.free = simulation.inventory.free
    return found, simulation


@pytest.mark.parametrize("seed", range(3))
def test_with_pieces_for_everybody_every_group_has_its_actual_outcome(seed: int, tmp_path: Path) -> None:
    system = SimulatedSystem(120, seed, tmp_path)
    system.run()
    found, _ = played(system, 1_000_000, stock=f"stocks/{STOCK}")
    assert found.was.completed > 0
    assert found.would_be == found.was
    assert found.different == 0


def test_fewer_pieces_are_all_sold_and_no_more(evening: SimulatedSystem) -> None:
    unlimited, _ = played(evening, 1_000_000, stock=f"stocks/{STOCK}")
    total = unlimited.would_be.pieces // 3
    found, simulation = played(evening, total, stock=f"stocks/{STOCK}")
    assert total > 10
    assert 0 < found.would_be.pieces <= total
    assert found.would_be.pieces + simulation.inventory.free == total
    assert found.would_be.sold_out > 0


def test_a_limit_refuses_orders_beyond_it(evening: SimulatedSystem) -> None:
    found, _ = played(evening, 0, limit_per_customer=1)
    assert found.would_be.over_limit > 0
    assert found.would_be.settled < found.was.settled


def test_a_sale_with_stock_sells_at_most_its_pieces_again() -> None:
    """The logs of a sale that had a stock item: its answers are decided anew."""
    checked = 0
    for seed in range(12):
        inputs: dict[str, list[tuple[int, int, bytes]]] = {}
        placed: Counter[str] = Counter()
        for record in sale(seed):
            if record.topic != GROUP_INBOX.name:
                continue
            key = (record.key or b"").decode()
            inputs.setdefault(key, []).append((record.offset, record.timestamp, record.value or b""))
            message = GroupInput.FromString(record.value or b"")
            if message.order_fact:
                placed[key] += OrderFact.FromString(message.order_fact).placed.quantity
        simulation = Sale(lambda offer: offer, lambda _: 8)
        for key, records in inputs.items():
            simulation.add(key, Actual(), records)
        outcome = Outcome()
        for group in simulation.run(EVER).values():
            outcome.add(group.outcome)
        assert outcome.pieces <= 8
        checked += outcome.pieces
    assert checked > 0
