"""`python -m tests.simulation.one_customer --rounds 200`: one customer orders in many groups at once, where the
campaign allows one piece.

Each round plays the orders through groups, routers and the allowance with random interleavings, crashes and repeats.
One order gets a seat, the others are refused without a hold. Prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence

from groupbuy.groups.v1.decisions_pb2 import REFUSAL_REASON_LIMIT_REACHED, GroupDecision
from groupbuy.inventory.v1.inbox_pb2 import CreateStockCommand, StockInput

from eventlog.core.partitioner import partition_of
from shared_kernel import topics
from tests.scenarios import facts, inputs, payment_events
from tests.simulation.audit.violation import Violation
from tests.simulation.world.broker import Record
from tests.simulation.world.stock import PARTITIONS, STOCK, StockWorld

GROUPS = 50
CUSTOMER = "c1"


class OneCustomer(StockWorld):
    """One round: an order of the same customer opens each group, all at the same time."""

    def __init__(self, seed: int, groups: int = GROUPS) -> None:
        self._count = groups
        #: Orders with a seat, for which money is held, and orders refused because of the limit.
        self.found: Counter[str] = Counter()
        super().__init__(seed)
        self.broker.watchers.append(self._note)

    def _shop(self) -> None:
        offer = self.offer
        create = CreateStockCommand(request_id="c", total=self._count, lease_divisor=1)
        self.broker.append(
            topics.STOCK_INBOX.name,
            partition_of(STOCK, PARTITIONS),
            STOCK.encode(),
            StockInput(create=create).SerializeToString(),
        )
        offer.ClearField("start_time")
        offer.ClearField("end_time")
        offer.lease_ahead = 0
        offer.limit_per_customer = 1
        offer.house_fill_members = 1
        for number in range(self._count):
            group, order = f"g{number}", f"o{number}"
            fact = facts.placed(
                order,
                group=group,
                customer=CUSTOMER,
                opens_group=True,
                max_unit_price_minor=9_900,
                request_sha256=order.encode(),
            )
            self.auditor.placed(order, group, CUSTOMER, 1)
            self._to_group(group, inputs.order_fact(fact, offer).SerializeToString())

    def _hold(self, group: str, order: str, amount_minor: int) -> Callable[[], None]:
        """Every hold is authorised: a declined one would free the limit for a second order."""
        made = payment_events.hold_authorised(order, amount_minor)
        value = inputs.payments_decided(group, made).SerializeToString()
        return lambda: self._to_group(group, value)

    def _note(self, record: Record) -> None:
        if record.topic != topics.GROUP_LOG.name:
            return
        decision = GroupDecision.FromString(record.value or b"")
        if not self.auditor.is_first(decision.group, decision.version):
            return
        for event in decision.events:
            self.found["seats"] += event.HasField("seat_reserved")
            self.found["limit"] += event.seat_refused.reason == REFUSAL_REASON_LIMIT_REACHED


def play(seed: int, groups: int = GROUPS) -> Counter[str]:
    """Plays one round. Raises Violation."""
    world = OneCustomer(seed, groups)
    world.run()
    return world.found


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays the rounds. Returns 1 if one is not as it has to be."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.one_customer", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--groups", type=int, default=GROUPS)
    options = parser.parse_args(arguments)
    failed: list[str] = []
    totals: Counter[str] = Counter()
    for seed in range(options.rounds):
        try:
            found = play(seed, options.groups)
        except Violation as violation:
            failed.append(f"round {seed}: {violation}")
            continue
        totals += found
        if (found["seats"], found["limit"]) != (1, options.groups - 1):
            failed.append(f"round {seed}: {dict(found)}")
    print(json.dumps({"rounds": options.rounds, "orders": options.rounds * options.groups, **totals, "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
