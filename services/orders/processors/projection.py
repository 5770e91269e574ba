"""Folds order facts, group decisions and payment decisions into what shoppers see of their orders."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from eventlog.deadletter import Undecodable
from services.orders.domain.orders import GroupOrders, OrdersFold


class OrdersFolding:
    """Folding rules of the order projection."""

    def __init__(self, orders_topic: str, groups_topic: str, payments_topic: str) -> None:
        self._fold = OrdersFold()
        self._orders_topic = orders_topic
        self._groups_topic = groups_topic
        self._payments_topic = payments_topic

    def initial(self, key: str) -> GroupOrders:
        """Orders of a group that nothing was said about."""
        return self._fold.initial(key)

    def fold(self, state: GroupOrders, record: Any) -> None:
        """Folds one record. Raises Undecodable."""
        value = record.value or b""
        try:
            if record.topic == self._orders_topic:
                fact = OrderFact.FromString(value)
                _of(fact.group, record.key)
                self._fold.fold_fact(state, fact, record.timestamp)
            elif record.topic == self._groups_topic:
                decision = GroupDecision.FromString(value)
                _of(decision.group, record.key)
                self._fold.fold_group(state, decision, value)
            else:
                payment = PaymentDecision.FromString(value)
                _of(payment.group, record.key)
                self._fold.fold_payment(state, payment, value)
        except DecodeError as error:
            raise Undecodable(f"can't be decoded: {error}") from error


def _of(group: str, key: bytes | None) -> None:
    if key is None or group.encode() != key:
        raise Undecodable(f"a record of group {group!r} under the key {key!r}")
