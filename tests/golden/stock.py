"""`python -m tests.golden.stock` records golden logs of groups with stock (rules version 2), of stock items and of
allowances from simulated sales, once and for all.

It takes seeds in turn and keeps those that bring an event that none before had, until every event has occurred.
"""

from __future__ import annotations

from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupEvent
from groupbuy.inventory.v1.decisions_pb2 import AllowanceDecision, AllowanceEvent, StockDecision, StockEvent

from shared_kernel import topics
from tests.golden.logs import FOLDER, Logs, cover, kinds_of_events, write
from tests.simulation.world.stock import TOPICS, StockWorld

PATH = FOLDER / "stock-rules-2.jsonl.gz"
DECISIONS: dict[str, Any] = {
    topics.GROUP_LOG.name: GroupDecision,
    topics.STOCK_LOG.name: StockDecision,
    topics.ALLOWANCE_LOG.name: AllowanceDecision,
}
#: Of faults in the rules, of which none is known, and events that no simulated sale yields: the merchant archives no
#: stock item in it, no cancel comes after the completion, and payments owe nothing.
NEVER = frozenset(
    {
        "GroupEvent.faulted",
        "StockEvent.faulted",
        "AllowanceEvent.faulted",
        "StockEvent.archived",
        "GroupEvent.member_owed",
    }
)
MAX_SEEDS = 400


def every_event() -> set[str]:
    """Every kind of event that a sound sale writes."""
    messages = (GroupEvent, StockEvent, AllowanceEvent)
    return {f"{m.DESCRIPTOR.name}.{field.name}" for m in messages for field in m.DESCRIPTOR.oneofs[0].fields} - NEVER


def events(logs: Logs) -> set[str]:
    """Kinds of events in a history."""
    return kinds_of_events(logs, DECISIONS)


def record() -> list[tuple[int, Logs]]:
    """Histories that have every event between them."""

    def logs_of(seed: int) -> Logs:
        world = StockWorld(seed)
        world.run()
        return {name: log for name, log in world.broker.logs.items() if name[0] in TOPICS and log}

    return cover(every_event(), events, logs_of, MAX_SEEDS)


if __name__ == "__main__":
    write(PATH, record)
