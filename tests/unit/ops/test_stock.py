"""`groupbuy-ops stock`: the pieces of each group by its reasons, at any time of a sale."""

from __future__ import annotations

import pytest

from ops.audit.auditor import Auditor
from ops.stock.holders import holders, stock_rows
from shared_kernel.topics import GROUP_INBOX
from tests.unit.ops.sales import sale


@pytest.mark.parametrize("seed", range(6))
def test_the_pieces_of_all_groups_are_the_leased_ones(seed: int) -> None:
    auditor, with_pieces, in_line = Auditor(), 0, 0
    for record in sale(seed):
        if record.topic == GROUP_INBOX.name:
            continue
        auditor.take(record.topic, (record,))
        rows = stock_rows(auditor.pieces.stocks)
        if not rows:
            continue
        (row,) = rows
        found = list(holders(auditor, row.stock))
        assert row.total == row.free + row.leased + row.sold
        assert sum(one.units for one in found) == row.leased
        assert sum(1 for one in found if one.waits_for) == row.waiting
        for one in found:
            assert one.reserved + one.confirmed + one.charging + one.idle + one.on_the_way == one.units
            assert one.why != "nothing"
        with_pieces += row.groups
        in_line += row.waiting
    (row,) = stock_rows(auditor.pieces.stocks)
    assert (row.leased, row.groups, row.waiting) == (0, 0, 0)
    assert row.offer == ("LIVE" if row.free else "SOLD_OUT")


def test_the_reasons_are_in_words() -> None:
    words = set()
    for seed in range(12):
        auditor = Auditor()
        for record in sale(seed):
            if record.topic != GROUP_INBOX.name:
                auditor.take(record.topic, (record,))
                words |= {part.split(" ", 1)[1] for one in holders(auditor, "drop") for part in one.why.split(", ")}
    assert {"reserved", "confirmed", "charging", "for seats that nobody has taken yet"} <= words
    assert any(one.startswith("in line") or "line" in one for one in words)
    assert "on the way to the group or back" in words
