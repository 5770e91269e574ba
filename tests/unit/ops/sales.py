"""Logs of simulated sales, for the tests of audit and watch."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from shared_kernel.topics import ALLOWANCE_LOG, GROUP_INBOX, GROUP_LOG, STOCK_LOG
from tests.simulation.world.broker import Record
from tests.simulation.world.stock import StockWorld

#: Causes first.
TOPICS = (GROUP_INBOX.name, GROUP_LOG.name, STOCK_LOG.name, ALLOWANCE_LOG.name)


@lru_cache(maxsize=16)
def sale(seed: int) -> tuple[Record, ...]:
    """The records of a sale in the order in which they were appended."""
    world = StockWorld(seed)
    appended: list[Record] = [record for log in world.broker.logs.values() for record in log]
    world.broker.watchers.append(appended.append)
    world.run()
    return tuple(record for record in appended if record.topic in TOPICS)


def copy(record: Record, value: bytes) -> Record:
    """The record with another value."""
    return Record(
        record.topic, record.partition, record.offset, record.timestamp, record.key or b"", value, record.headers
    )


def edited(records: tuple[Record, ...], topic: str, message: Any, edit: Any) -> list[Record]:
    """The records with `edit` applied to the decisions of a topic. `edit` returns True once it has changed one."""
    found, done = [], False
    for record in records:
        if record.topic == topic and not done:
            decision = message.FromString(record.value or b"")
            done = edit(decision)
            found.append(copy(record, decision.SerializeToString()))
        else:
            found.append(record)
    assert done, "no decision was changed"
    return found
