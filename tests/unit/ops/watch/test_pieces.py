"""Watch folds groups with stock, stock items and allowances, across restarts, and compares their sums."""

from __future__ import annotations

from pathlib import Path

import pytest
from groupbuy.inventory.v1.decisions_pb2 import StockDecision

from eventlog.state.database import Database
from ops.audit.findings import Invariant
from ops.watch.folding.case_codec import STAMP
from ops.watch.folding.incremental import IncrementalAudit
from ops.watch.folding.totals import QUIET_MS, Totals
from shared_kernel.topics import GROUP_INBOX, ORDERS, STOCK_LOG
from tests.simulation.world.broker import Record
from tests.simulation.world.stock import PARTITIONS
from tests.unit.ops.sales import edited, sale
from tests.unit.ops.watch.folding import open_audit

#: Far after the last record.
LATER_MS = 2_000_000_000_000


def fold(audit: IncrementalAudit, records: list[Record]) -> None:
    # The world has no topic of orders.
    for partition in range(PARTITIONS):
        audit.begins_at(ORDERS.name, partition, 1)
    for record in records:
        audit.take(record.topic, [record])


def watched(records: tuple[Record, ...]) -> list[Record]:
    return [record for record in records if record.topic != GROUP_INBOX.name]


@pytest.mark.parametrize("seed", range(8))
def test_a_sound_sale_has_no_violation_and_equal_sums_across_restarts(seed: int, tmp_path: Path) -> None:
    records = watched(sale(seed))
    part = len(records) // 3 + 1
    totals = Totals()
    for at in range(0, len(records), part):
        database = Database(tmp_path / "watch", STAMP)
        audit = IncrementalAudit(database, max_changed=3, max_recent=1)
        fold(audit, records[at : at + part])
        audit.end_round()
        totals = audit.totals
        database.close()
    assert totals.violations == {}
    assert list(totals.unequal_pieces(LATER_MS)) == []
    pieces = totals.pieces["drop"]
    assert pieces.leased == pieces.held == 0
    assert pieces.sold == pieces.charged


def test_sums_that_differ_count_once_nothing_is_on_its_way(tmp_path: Path) -> None:
    seed = next(one for one in range(40) if _sold(sale(one)))
    changed = edited(sale(seed), STOCK_LOG.name, StockDecision, _one_piece_less)
    audit = open_audit(tmp_path)
    fold(audit, watched(tuple(changed)))
    audit.end_round()
    ((stock, pieces),) = audit.totals.unequal_pieces(LATER_MS)
    assert stock == "drop"
    assert (pieces.sold, pieces.leased) == (pieces.charged - 1, 1)
    assert list(audit.totals.unequal_pieces(pieces.at_ms + QUIET_MS)) == []


def test_a_lease_beyond_what_is_free_is_a_violation(tmp_path: Path) -> None:
    changed = edited(sale(0), STOCK_LOG.name, StockDecision, _leases_too_much)
    audit = open_audit(tmp_path)
    fold(audit, watched(tuple(changed)))
    audit.end_round()
    assert Invariant.PIECES in audit.totals.violations


def _sold(records: tuple[Record, ...]) -> bool:
    return any(
        event.sold.units > 1
        for record in records
        if record.topic == STOCK_LOG.name
        for event in StockDecision.FromString(record.value or b"").events
    )


def _one_piece_less(decision: StockDecision) -> bool:
    for event in decision.events:
        if event.sold.units > 1:
            event.sold.units -= 1
            return True
    return False


def _leases_too_much(decision: StockDecision) -> bool:
    for event in decision.events:
        if event.HasField("leased"):
            event.leased.units += 1_000
            return True
    return False
