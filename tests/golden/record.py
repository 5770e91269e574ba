"""`python -m tests.golden.record 1` records golden logs of rules version 1 from simulated histories, once and for all.

It takes seeds in turn and keeps those that bring an event that none before had, until every event of both decision logs
has occurred.
"""

from __future__ import annotations

import argparse
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupEvent
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, PaymentEvent

from shared_kernel import topics
from tests.golden.logs import FOLDER, Logs, cover, kinds_of_events, write
from tests.simulation.histories.coverage import Coverage
from tests.simulation.histories.plan import plan
from tests.simulation.histories.replay import LOGS
from tests.simulation.world.world import World

DECISIONS: dict[str, Any] = {topics.GROUP_LOG.name: GroupDecision, topics.PAYMENT_LOG.name: PaymentDecision}
KEPT = frozenset(name for pair in LOGS.values() for name in pair)
#: Of a fault in the rules themselves: those of the product have none that is known.
NEVER = frozenset({"GroupEvent.faulted", "PaymentEvent.faulted"})
#: Events of groups that only rules version 2 yields. golden/stock.py records them.
OF_STOCK = frozenset(
    f"GroupEvent.{field.name}"
    for field in GroupEvent.DESCRIPTOR.oneofs[0].fields
    if field.number >= GroupEvent.UNITS_REQUESTED_FIELD_NUMBER
)
#: Events of payment rules version 2. golden/payments.py records them.
OF_PAYMENTS_2 = frozenset(
    f"PaymentEvent.{field.name}"
    for field in PaymentEvent.DESCRIPTOR.oneofs[0].fields
    if field.number >= PaymentEvent.RULES_SELECTED_FIELD_NUMBER
)
MAX_SEEDS = 400


def every_event() -> set[str]:
    """Every kind of event that a sound system writes."""
    messages = (GroupEvent, PaymentEvent)
    return (
        {f"{m.DESCRIPTOR.name}.{field.name}" for m in messages for field in m.DESCRIPTOR.oneofs[0].fields}
        - NEVER
        - OF_PAYMENTS_2
        - OF_STOCK
    )


def events(logs: Logs) -> set[str]:
    """Kinds of events in a history."""
    return kinds_of_events(logs, DECISIONS)


def record() -> list[tuple[int, Logs]]:
    """Histories that have every event between them."""

    def logs_of(seed: int) -> Logs:
        world = World(plan(seed), Coverage())
        world.run()
        return {name: log for name, log in world.broker.logs.items() if name[0] in KEPT and log}

    return cover(every_event(), events, logs_of, MAX_SEEDS)


def main() -> None:
    """Records a version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", type=int, help="of the rules that decide now")
    write(FOLDER / f"rules-{parser.parse_args().version}.jsonl.gz", record)


if __name__ == "__main__":
    main()
