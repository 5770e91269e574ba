"""The audit of groups with stock, stock items and allowances: sound sales are clean, and each fault is a violation.

`python -m tests.simulation.stock_histories --mutants --product-only` hunts every planted bug with the audit alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.inventory.v1.decisions_pb2 import AllowanceDecision, StockDecision

from ops.audit.auditor import Auditor
from ops.audit.findings import Findings, Invariant
from shared_kernel.topics import ALLOWANCE_LOG, GROUP_LOG, STOCK_LOG
from tests.simulation.mutants.inventory import INVENTORY
from tests.simulation.mutants.planting import Mutant
from tests.simulation.stock_histories import hunt
from tests.simulation.world.broker import Record
from tests.unit.ops.sales import edited, sale

#: Bugs that the first seeds find.
QUICK = ("stock_repeats", "idle_pieces_kept", "lease_beyond_free", "gate_passed", "return_more_than_leased")


def audit(records: list[Record] | tuple[Record, ...], *, settled: bool = True) -> Findings:
    """The findings about pieces, limits and times. A sale has no orders topic and no payments."""
    findings = Findings()
    auditor = Auditor(with_inputs=True, findings=findings)
    for record in records:
        auditor.take(record.topic, (record,))
    auditor.check_pieces(findings, settled=settled)
    return findings


@pytest.mark.parametrize("seed", range(12))
def test_a_sound_sale_is_clean(seed: int) -> None:
    assert audit(sale(seed)).violations == []


@pytest.mark.parametrize("seed", range(4))
def test_a_sale_cut_off_anywhere_is_pending_without_a_violation(seed: int) -> None:
    records = sale(seed)
    for end in range(0, len(records), 7):
        assert audit(records[:end], settled=False).violations == []


@pytest.mark.parametrize("bug", [one for one in INVENTORY if one.name in QUICK], ids=lambda bug: bug.name)
def test_the_audit_alone_finds_a_planted_bug(bug: Mutant) -> None:
    seeds, caught_by = hunt(bug, 40, product_only=True)
    assert caught_by, f"{seeds} seeds do not find it"


def first(body: str, change: Callable[[Any], None]) -> Callable[[Any], bool]:
    """Changes the first event of a kind."""

    def edit(decision: Any) -> bool:
        for event in decision.events:
            if event.WhichOneof("body") == body:
                change(getattr(event, body))
                return True
        return False

    return edit


def put(name: str, value: Any) -> Callable[[Any], None]:
    return lambda event: setattr(event, name, value)


def without(body: str) -> Callable[[Any], bool]:
    """Removes the first event of a kind."""

    def edit(decision: Any) -> bool:
        for at, event in enumerate(decision.events):
            if event.WhichOneof("body") == body:
                del decision.events[at]
                return True
        return False

    return edit


FAULTS: dict[str, tuple[str, Any, Callable[[Any], bool], Invariant]] = {
    "more is leased than is there": (
        STOCK_LOG.name,
        StockDecision,
        first("leased", put("units", 1_000)),
        Invariant.PIECES,
    ),
    "a lease differs from its grant": (
        GROUP_LOG.name,
        GroupDecision,
        first("units_granted", put("units", 77)),
        Invariant.PIECES,
    ),
    "a sale is not reported": (GROUP_LOG.name, GroupDecision, without("units_sold"), Invariant.LEASES),
    "a lease does not come home": (STOCK_LOG.name, StockDecision, without("returned"), Invariant.LEASES),
    "the stock item forgets what it heard": (STOCK_LOG.name, StockDecision, without("heard"), Invariant.LEASES),
    "an offer that is not so": (
        STOCK_LOG.name,
        StockDecision,
        first("offer_changed", put("state", 3)),
        Invariant.PIECES,
    ),
}


def seed_with(body: str, topic: str, message: Any) -> int:
    """The first seed whose sale has an event."""
    for seed in range(200):
        for record in sale(seed):
            if record.topic == topic:
                decision = message.FromString(record.value or b"")
                if any(event.WhichOneof("body") == body for event in decision.events):
                    return seed
    raise AssertionError(f"no sale has {body}")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_a_violation(name: str) -> None:
    topic, message, edit, invariant = FAULTS[name]
    for seed in range(40):
        try:
            records = edited(sale(seed), topic, message, edit)
        except AssertionError:
            continue
        assert invariant in audit(records).by_invariant
        return
    raise AssertionError("no sale has such an event")


def test_an_admission_beyond_the_limit_is_a_violation() -> None:
    seed = seed_with("admitted", ALLOWANCE_LOG.name, AllowanceDecision)
    change = first("admitted", put("quantity", 1_000))
    found = audit(edited(sale(seed), ALLOWANCE_LOG.name, AllowanceDecision, change))
    assert Invariant.LIMITS in found.by_invariant


def test_a_returned_allowance_that_is_lost_is_a_violation() -> None:
    seed = seed_with("returned", ALLOWANCE_LOG.name, AllowanceDecision)
    found = audit(edited(sale(seed), ALLOWANCE_LOG.name, AllowanceDecision, without("returned")))
    assert Invariant.LIMITS in found.by_invariant
