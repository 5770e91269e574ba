"""The outcomes of the orders of a history, folded as the order projection does, against the audit's books.

The three logs are read in random batches in any order between them, and some are read again after a restart. Folding
and mapping are production code.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.orders.v1.outcomes_pb2 import OrderOutcome
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from ops.audit.group.seats import SeatState
from services.orders.domain.fold import OrdersFold
from services.orders.domain.model import GroupOrders
from services.orders.processors.outcomes import OutcomeMapper
from shared_kernel import topics
from tests.simulation.audit.auditor import Auditor
from tests.simulation.audit.violation import Violation
from tests.simulation.world.broker import Broker, Record

#: Largest batch, and the share of batches whose outcomes are written again after a restart.
MAX_BATCH = 30
AGAIN = 0.1
PROMISE = "an order has one last word"
_ENDS = ("sold", "unsold")


def check_outcomes(broker: Broker, auditor: Auditor, chance: Random) -> None:
    """Raises Violation."""
    found: dict[tuple[str, str], OrderOutcome] = {}
    for partition in sorted({partition for _, partition in broker.logs}):
        for outcome in _Projection(broker, partition, chance).outcomes():
            # Forged events name one order in several groups.
            if found.setdefault((outcome.group, outcome.id), outcome) != outcome:
                raise Violation(PROMISE, outcome.group, f"outcome {outcome.id} has two contents")
    ends: dict[tuple[str, str], OrderOutcome] = {}
    for outcome in found.values():
        if outcome.WhichOneof("body") in _ENDS and ends.setdefault((outcome.group, outcome.order), outcome) != outcome:
            raise Violation(PROMISE, outcome.group, f"{outcome.order} has two ends")
    for key, case in auditor.audit.cases.items():
        for order, seat in case.group.seats.items():
            end = ends.pop((key, order), None)
            kind = None if end is None else end.WhichOneof("body")
            settled = seat.state is SeatState.SETTLED
            expected = "sold" if settled else "unsold" if seat.state.final else None
            if kind != expected:
                raise Violation(PROMISE, key, f"{order} is {seat.state.name}, and its outcome is {kind}")
            if end is not None and settled and (end.sold.amount_minor, end.quantity) != _sold(seat):
                raise Violation(PROMISE, key, f"{order} was charged {_sold(seat)}, and its outcome is {end}")
    if ends:
        raise Violation(PROMISE, "", f"outcomes of unknown orders: {sorted(ends)}")


def _sold(seat: Any) -> tuple[int, int]:
    return seat.settled_minor, seat.quantity


class _Projection:
    """The order projection of one partition."""

    def __init__(self, broker: Broker, partition: int, chance: Random) -> None:
        names = (topics.ORDERS.name, topics.GROUP_LOG.name, topics.PAYMENT_LOG.name)
        self._logs = {name: broker.logs[name, partition] for name in names}
        self._positions = dict.fromkeys(names, 0)
        self._chance = chance
        self._rules = OrdersFold()
        self._mapper = OutcomeMapper(topics.GROUP_LOG.name, topics.PAYMENT_LOG.name)
        self._states: dict[str, GroupOrders] = {}

    def outcomes(self) -> Iterator[OrderOutcome]:
        """Reads all logs to their ends."""
        chance = self._chance
        while unread := [name for name, log in self._logs.items() if self._positions[name] < len(log)]:
            name = chance.choice(unread)
            begin = self._positions[name]
            batch = self._logs[name][begin : begin + chance.randint(1, MAX_BATCH)]
            self._positions[name] += len(batch)
            for record in batch:
                self._fold(name, record)
            again = chance.random() < AGAIN
            for record in (*batch, *batch) if again else batch:
                state = self._states.get((record.key or b"").decode())
                if state is not None and self._mapper.concerns(name):
                    yield from self._mapper.outcomes(name, state, record)

    def _fold(self, name: str, record: Record) -> None:
        key, value = (record.key or b"").decode(), record.value or b""
        if name == topics.ORDERS.name:
            try:
                fact = OrderFact.FromString(value)
                self._rules.fold_fact(self._state(key), fact, record.timestamp)
            except DecodeError:
                # Poison, which the projection puts into its dead-letter topic.
                return
        elif name == topics.GROUP_LOG.name:
            self._rules.fold_group(self._state(key), GroupDecision.FromString(value), value)
        else:
            self._rules.fold_payment(self._state(key), PaymentDecision.FromString(value), value)

    def _state(self, key: str) -> GroupOrders:
        found = self._states.get(key)
        if found is None:
            found = self._states[key] = self._rules.initial(key)
        return found
