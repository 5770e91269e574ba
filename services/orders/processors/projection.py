"""Folds order facts, group decisions and payment decisions into what shoppers see of their orders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from eventlog.deadletter import Undecodable
from eventlog.processor import Connection
from eventlog.projection import Projection
from eventlog.topics import TopicSpec
from services.orders.domain.orders import GroupOrders, OrdersFold
from services.orders.processors.customers import Customers


class OrdersFolding:
    """Folding rules of the order projection."""

    def __init__(self, orders_topic: str, groups_topic: str, payments_topic: str, customers: Customers) -> None:
        self._fold = OrdersFold()
        self._customers = customers
        self._orders_topic = orders_topic
        self._groups_topic = groups_topic
        self._payments_topic = payments_topic

    def initial(self, key: str) -> GroupOrders:
        """Orders of a group that nothing was said about."""
        return self._fold.initial(key)

    def fold(self, state: GroupOrders, topic: str, record: Any) -> None:
        """Folds one record of a topic. Raises Undecodable."""
        value = record.value or b""
        try:
            if topic == self._orders_topic:
                fact = OrderFact.FromString(value)
                _of(fact.group, state)
                self._fold.fold_fact(state, fact, record.timestamp)
                if fact.HasField("placed"):
                    self._customers.add(fact.customer, fact.order, fact.group)
            elif topic == self._groups_topic:
                decision = GroupDecision.FromString(value)
                _of(decision.group, state)
                self._fold.fold_group(state, decision, value)
            else:
                payment = PaymentDecision.FromString(value)
                _of(payment.group, state)
                self._fold.fold_payment(state, payment, value)
        except DecodeError as error:
            raise Undecodable(f"can't be decoded: {error}") from error


def _of(group: str, state: GroupOrders) -> None:
    # A state is its record's key's.
    if not group or group != state.group:
        raise Undecodable(f"a record of group {group!r} under the key {state.group!r}")


class OrdersProjection(Projection[GroupOrders]):
    """The order projection: by group, and by customer."""

    def __init__(
        self,
        group: str,
        orders: TopicSpec,
        groups: TopicSpec,
        payments: TopicSpec,
        service: str,
        connection: Connection,
    ) -> None:
        self._customers = Customers()
        self._indexed_epoch = -1
        folding = OrdersFolding(orders.name, groups.name, payments.name, self._customers)
        super().__init__(group, (orders, groups, payments), service, folding, connection)

    def of_customer(self, customer: str) -> Mapping[str, str]:
        """Group by order of the customer's newest orders, as far as partitions are here; some may be gone again."""
        return self._customers.of(customer)

    def _partition(self, partition: int, epoch: int) -> Any:
        if epoch > self._indexed_epoch:
            # Every partition is folded anew in a new epoch.
            self._indexed_epoch = epoch
            self._customers.clear()
        return super()._partition(partition, epoch)
