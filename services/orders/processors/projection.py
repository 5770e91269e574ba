"""Folds order facts, group decisions and payment decisions into what shoppers see of their orders."""

from __future__ import annotations

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
from services.orders.domain.model import GroupOrders, HistoryBroken, OrdersFold
from services.orders.processors.customers import Listed, list_orders, listed, place

#: Changes with the meaning of what is kept, which is then folded again from the logs.
STAMP = "orders-1"


class OrdersFolding:
    """Folding rules of the order projection."""

    stamp = STAMP

    def __init__(self, orders_topic: str, groups_topic: str, payments_topic: str) -> None:
        self._fold = OrdersFold()
        self._orders_topic = orders_topic
        self._groups_topic = groups_topic
        self._payments_topic = payments_topic
        self._packed: Packed[GroupOrders] = Packed(GroupOrders)

    def initial(self, key: str) -> GroupOrders:
        """Orders of a group that nothing was said about."""
        return self._fold.initial(key)

    def encode(self, state: GroupOrders) -> bytes:
        """Bytes of a group's orders."""
        return self._packed.encode(state)

    def decode(self, key: str, value: bytes) -> GroupOrders:
        """The orders that were encoded. Texts that many orders share are one object, as after a fold."""
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
        """Folds one record of a topic. Raises Undecodable, also for a decision that does not follow the one before."""
        value = record.value or b""
        try:
            if topic == self._orders_topic:
                fact = OrderFact.FromString(value)
                _of(fact.group, state)
                self._fold.fold_fact(state, fact, record.timestamp)
            elif topic == self._groups_topic:
                decision = GroupDecision.FromString(value)
                _of(decision.group, state)
                self._fold.fold_group(state, decision, value)
            else:
                payment = PaymentDecision.FromString(value)
                _of(payment.group, state)
                self._fold.fold_payment(state, payment, value)
        except HistoryBroken as error:
            raise Undecodable(str(error)) from error
        except DecodeError as error:
            raise Undecodable(f"can't be decoded: {error}") from error
        if state.unlisted:
            list_orders(state, index)


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
        folding = OrdersFolding(orders.name, groups.name, payments.name)
        super().__init__(group, (orders, groups, payments), service, folding, connection)

    def of_customer(self, customer: str, partition: int, after: tuple[int, str] | None, most: int) -> list[Listed]:
        """At most so many of a customer's orders in a partition, in the order of their keys. Raises NotReady."""
        return [listed(row) for row in self.page(partition, customer, b"" if after is None else place(after), most)]
