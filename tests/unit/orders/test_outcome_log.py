"""The outcomes of orders: one for each end, one for each refund, whatever the order in which the topics are read."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.orders.v1.outcomes_pb2 import OrderOutcome
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from services.orders.domain.fold import OrdersFold
from services.orders.domain.model import GroupOrders
from services.orders.domain.outcome import of_group, of_payment
from services.orders.processors.outcomes import OutcomeMapper
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_LOG
from tests.unit.ops.simulated_system import SimulatedSystem


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> SimulatedSystem:
    made = SimulatedSystem(200, 99, tmp_path_factory.mktemp("books"))
    made.run()
    return made


class Reader:
    """Folds records, and keeps the outcomes of each id."""

    def __init__(self) -> None:
        self.states: dict[str, GroupOrders] = {}
        self.outcomes: dict[str, OrderOutcome] = {}
        self._fold = OrdersFold()

    def read(self, topic: str, record: Any) -> None:
        key = record.key.decode()
        state = self.states.setdefault(key, GroupOrders(key))
        if topic == ORDERS.name:
            self._fold.fold_fact(state, OrderFact.FromString(record.value), record.timestamp)
        elif topic == GROUP_LOG.name:
            decision = GroupDecision.FromString(record.value)
            self._fold.fold_group(state, decision, record.value)
            self._keep(of_group(state, decision))
        else:
            payment = PaymentDecision.FromString(record.value)
            self._fold.fold_payment(state, payment, record.value)
            self._keep(of_payment(state, payment))

    def again(self, topic: str, record: Any) -> None:
        """The outcomes of a record that is folded already, from the state of now."""
        mapper = OutcomeMapper(GROUP_LOG.name, PAYMENT_LOG.name)
        if mapper.concerns(topic):
            self._keep(mapper.outcomes(topic, self.states[record.key.decode()], record))

    def _keep(self, outcomes: Any) -> None:
        for one in outcomes:
            # A repeat has the same content.
            assert self.outcomes.setdefault(one.id, one) == one


def read(system: SimulatedSystem, *topics: str) -> Reader:
    reader = Reader()
    for topic in topics:
        for record in system.topics[topic]:
            reader.read(topic, record)
    return reader


def test_every_order_has_one_end_and_the_sums_are_those_of_the_charges(system: SimulatedSystem) -> None:
    reader = read(system, ORDERS.name, GROUP_LOG.name, PAYMENT_LOG.name)
    ends = Counter(one.order for one in reader.outcomes.values() if one.WhichOneof("body") in ("sold", "unsold"))
    placed = {name for state in reader.states.values() for name, order in state.orders.items() if order.placed}
    assert set(ends) == placed
    assert set(ends.values()) == {1}
    sold = [one for one in reader.outcomes.values() if one.HasField("sold")]
    charged = sum(order.settled_minor for state in reader.states.values() for order in state.orders.values())
    assert sum(one.sold.amount_minor for one in sold) == charged > 0
    for one in sold:
        assert one.customer
        assert one.campaign
        assert one.product
        assert one.sold.amount_minor == one.sold.unit_price_minor * one.quantity - one.sold.discount_minor
        assert bool(one.sold.discount_minor) <= one.sold.leader
        assert one.sold.members >= 1
    assert {one.unsold.state for one in reader.outcomes.values() if one.HasField("unsold")} >= {"REFUSED", "CANCELLED"}


def test_refunds_are_those_of_sold_orders(system: SimulatedSystem) -> None:
    reader = read(system, ORDERS.name, GROUP_LOG.name, PAYMENT_LOG.name)
    refunds = [one for one in reader.outcomes.values() if one.HasField("refunded")]
    assert refunds
    for one in refunds:
        sale = reader.outcomes[f"{one.order}:sold"]
        assert one.customer == sale.customer
        assert 0 < one.refunded.amount_minor <= sale.sold.amount_minor
        assert one.refunded.whole == (one.refunded.amount_minor == sale.sold.amount_minor)


@pytest.mark.parametrize(
    "topics",
    [
        (PAYMENT_LOG.name, GROUP_LOG.name, ORDERS.name),
        (GROUP_LOG.name, PAYMENT_LOG.name),
        (PAYMENT_LOG.name, ORDERS.name, GROUP_LOG.name),
    ],
)
def test_outcomes_do_not_depend_on_the_order_of_the_topics(system: SimulatedSystem, topics: tuple[str, ...]) -> None:
    expected = read(system, ORDERS.name, GROUP_LOG.name, PAYMENT_LOG.name).outcomes
    assert read(system, *topics).outcomes == expected


def test_records_that_are_read_again_have_the_same_outcomes(system: SimulatedSystem) -> None:
    reader = read(system, ORDERS.name, GROUP_LOG.name, PAYMENT_LOG.name)
    count = len(reader.outcomes)
    for topic in (GROUP_LOG.name, PAYMENT_LOG.name):
        for record in system.topics[topic]:
            reader.again(topic, record)
    assert len(reader.outcomes) == count


def test_an_outcome_has_no_payment_token(system: SimulatedSystem, tmp_path: Path) -> None:
    reader = read(system, ORDERS.name, GROUP_LOG.name, PAYMENT_LOG.name)
    tokens = {
        OrderFact.FromString(record.value).placed.payment_method.encode() for record in system.topics[ORDERS.name]
    } - {b""}
    for one in reader.outcomes.values():
        raw = one.SerializeToString()
        assert not any(token in raw for token in tokens if len(token) > 6)


def test_a_refusal_before_the_group_opened_has_the_same_outcome_after_it() -> None:
    refused, opened = GroupDecision(version=1, time_ms=5), GroupDecision(version=2, time_ms=5)
    refused.events.add().seat_refused.order = "o1"
    terms = opened.events.add().opened.terms
    terms.campaign, terms.product, terms.currency = "mugs", "mug", "EUR"
    fold, state = OrdersFold(), GroupOrders("g1")
    value = refused.SerializeToString()
    fold.fold_group(state, refused, value)
    opened.previous_sha256 = sha256(value).digest()
    (before,) = of_group(state, refused)
    fold.fold_group(state, opened, opened.SerializeToString())
    assert state.campaign == "mugs"
    assert [*of_group(state, refused)] == [before]
