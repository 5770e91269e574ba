"""This build decides recorded inboxes of groups with stock, stock items and allowances to the same bytes."""

from __future__ import annotations

from typing import Any

import pytest

from eventlog.records.codec import Codec
from services.groups.domain.domain import GroupDomain
from services.groups.processors import codec as groups_codec
from services.inventory.domain.allowance.domain import AllowanceDomain
from services.inventory.domain.stock.domain import StockDomain
from services.inventory.processors import codec
from shared_kernel import topics
from tests.golden.logs import Logs, read
from tests.golden.stock import PATH, events, every_event
from tests.simulation.histories.replay import decide_anew, digest, distinct

#: Inbox -> (log, domain, codec).
DECIDERS: dict[str, tuple[str, Any, Codec[Any]]] = {
    topics.GROUP_INBOX.name: (
        topics.GROUP_LOG.name,
        GroupDomain(),
        Codec("", groups_codec.encode, groups_codec.decode),
    ),
    topics.STOCK_INBOX.name: (topics.STOCK_LOG.name, StockDomain(), codec.STOCK),
    topics.ALLOWANCE_INBOX.name: (topics.ALLOWANCE_LOG.name, AllowanceDomain(), codec.ALLOWANCE),
}


@pytest.mark.parametrize("on_disk", [False, True], ids=["in memory", "encoded after each input"])
def test_a_golden_inbox_is_decided_as_it_was(on_disk: bool) -> None:
    compared = 0
    for logs in read(PATH):
        for (topic, partition), records in logs.items():
            if topic not in DECIDERS:
                continue
            log, domain, kept = DECIDERS[topic]
            written = distinct(logs.get((log, partition), []))
            decided = decide_anew(domain, records, partition, kept if on_disk else None)
            assert decided == written
            assert digest(decided) == digest(written)
            compared += sum(map(len, written.values()))
    assert compared > 100


def test_every_event_is_in_the_golden_logs() -> None:
    found: set[str] = set()
    histories: list[Logs] = read(PATH)
    for logs in histories:
        found |= events(logs)
    assert found >= every_event()
