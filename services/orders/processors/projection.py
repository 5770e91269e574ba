"""The order projection: folds order facts, group decisions and payment decisions into the orders of shoppers."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial
from sys import intern
from typing import Any

from faust.types import TP
from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from eventlog.consuming.start_policy import StartPolicy
from eventlog.processors.base import Batch, Connection
from eventlog.processors.projection import Index, Projection
from eventlog.producing.batch_output import Output
from eventlog.records.dead_letters import Undecodable
from eventlog.records.packed import Packed
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime.time_slice import TimeSlice
from services.orders.domain.fold import HistoryBroken, OrdersFold
from services.orders.domain.model import GroupOrders
from services.orders.processors.customers import ListEntry, customers_page, group_of_order, update_list
from services.orders.processors.outcomes import OutcomeMapper

#: Changes with the format of kept states; a new stamp makes the first start refold the logs.
STAMP = "orders-4"


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
    """The orders by group and by customer. It also writes their outcomes for other systems, if it is told where to.

    An input offset is committed after its outcomes are acknowledged, and a start reads on from the committed offset.
    The fold passes over records that it has, and their outcomes are written again: none is lost, and a repeat has the
    same id.
    """

    def __init__(
        self,
        group: str,
        orders: TopicSpec,
        groups: TopicSpec,
        payments: TopicSpec,
        service: str,
        connection: Connection,
        *,
        outcomes: TopicSpec | None = None,
    ) -> None:
        rules = OrderProjectionRules(orders.name, groups.name, payments.name)
        self._outcomes = OutcomeMapper(groups.name, payments.name) if outcomes is not None else None
        self._outcome_topic = "" if outcomes is None else outcomes.name
        super().__init__(group, (orders, groups, payments), service, rules, connection)

    @property
    def start_policy(self) -> StartPolicy:  # type: ignore[override]
        """See DiskProcessor. With outcomes: the committed offset, if it is before the position of the fold."""
        of_fold = super().start_policy
        if self._outcomes is None:
            return of_fold

        async def start(tp: TP, committed: int | None, begin: int, end: int) -> int:
            found: Any = of_fold(tp, committed, begin, end)
            position: int = await found
            return min(position, max(committed or 0, begin))

        return start

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """See Projection. Writes the outcomes of what is folded."""
        written = await super().handle(batch)
        mapper = self._outcomes
        if written is None or mapper is None or not mapper.concerns(batch.topic):
            return written
        held = self.held_for(batch)
        if held is None:
            return None
        output = Output(self.producer, self._outcome_topic, batch.partition)
        slices = TimeSlice()
        acknowledged = list(written)
        folded = held.positions.get(batch.topic, 0)
        for record in batch.records:
            if record.offset >= folded:
                # Quarantined: it is read again.
                break
            state = held.get((record.key or b"").decode(errors="replace"))
            for outcome in () if state is None else mapper.outcomes(batch.topic, state, record):
                output.append(record.key, outcome.SerializeToString(), mapper.headers(outcome))
            if slices.expired():
                acknowledged += await output.send(full=True)
                await slices.yield_to_loop()
                if batch.epoch != self.epoch:
                    return None
        return [*acknowledged, *await output.send()]

    def of_customer(self, customer: str, partition: int, after: tuple[int, str] | None, limit: int) -> list[ListEntry]:
        """At most `limit` of a customer's orders in a partition, by their sort keys. Raises NotReady."""
        return customers_page(partial(self.page, partition), customer, after, limit)

    def group_of(self, order: str, partition: int) -> str:
        """Id of the group of an order in a partition; empty if the partition does not have the order. Raises
        NotReady."""
        return group_of_order(partial(self.page, partition), order)
