"""The order projection: folds order facts, group decisions and payment decisions into the orders of shoppers."""

from __future__ import annotations

from functools import partial
from sys import intern
from typing import Any

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from eventlog.processors.base import Connection
from eventlog.processors.projection import Index, Projection
from eventlog.records.dead_letters import Undecodable
from eventlog.records.packed import Packed
from eventlog.records.topic_spec import TopicSpec
from services.orders.domain.fold import HistoryBroken, OrdersFold
from services.orders.domain.model import GroupOrders
from services.orders.processors.customers import ListEntry, customers_page, group_of_order, update_list

#: Changes with the format of kept states; a new stamp makes the first start refold the logs.
STAMP = "orders-3"


class OrderProjectionRules:
    """Folding rules of the order projection."""

    stamp = STAMP

    def __init__(self, orders_topic: str, groups_topic: str, payments_topic: str) -> None:
        self._fold = OrdersFold()
        self._orders_topic = orders_topic
        self._groups_topic = groups_topic
        self._payments_topic = payments_topic
        self._packed: Packed[GroupOrders] = Packed(GroupOrders)

    def initial(self, key: str) -> GroupOrders:
        """The state of a group without records."""
        return self._fold.initial(key)

    def encode(self, state: GroupOrders) -> bytes:
        """Encodes the orders of a group."""
        return self._packed.encode(state)

    def decode(self, key: str, value: bytes) -> GroupOrders:
        """Decodes the orders of a group. Equal texts of orders share one object, as after a fold."""
        state = self._packed.decode(value)
        state.campaign = intern(state.campaign)
        state.currency = intern(state.currency)
        for order in state.orders.values():
            order.campaign = intern(order.campaign)
            order.currency = intern(order.currency)
            order.seat_reason = intern(order.seat_reason)
        return state

    def is_decision_log(self, topic: str) -> bool:
        """See Folding."""
        return topic != self._orders_topic

    def fold(self, state: GroupOrders, topic: str, record: Any, index: Index) -> None:
        """Folds one record. Raises Undecodable, also for a decision that does not follow the one before."""
        value = record.value or b""
        try:
            if topic == self._orders_topic:
                fact = OrderFact.FromString(value)
                _check_group(fact.group, state)
                self._fold.fold_fact(state, fact, record.timestamp)
            elif topic == self._groups_topic:
                decision = GroupDecision.FromString(value)
                _check_group(decision.group, state)
                self._fold.fold_group(state, decision, value)
            else:
                payment = PaymentDecision.FromString(value)
                _check_group(payment.group, state)
                self._fold.fold_payment(state, payment, value)
        except HistoryBroken as error:
            raise Undecodable(str(error)) from error
        except DecodeError as error:
            raise Undecodable(f"can't be decoded: {error}") from error
        if state.unlisted:
            update_list(state, index)


def _check_group(group: str, state: GroupOrders) -> None:
    if not group or group != state.group:
        raise Undecodable(f"a record of group {group!r} under the key {state.group!r}")


class OrdersProjection(Projection[GroupOrders]):
    """The orders by group and by customer."""

    def __init__(
        self,
        group: str,
        orders: TopicSpec,
        groups: TopicSpec,
        payments: TopicSpec,
        service: str,
        connection: Connection,
    ) -> None:
        rules = OrderProjectionRules(orders.name, groups.name, payments.name)
        super().__init__(group, (orders, groups, payments), service, rules, connection)

    def of_customer(self, customer: str, partition: int, after: tuple[int, str] | None, limit: int) -> list[ListEntry]:
        """At most `limit` of a customer's orders in a partition, by their sort keys. Raises NotReady."""
        return customers_page(partial(self.page, partition), customer, after, limit)

    def group_of(self, order: str, partition: int) -> str:
        """Id of the group of an order in a partition; empty if the partition does not have the order. Raises
        NotReady."""
        return group_of_order(partial(self.page, partition), order)
