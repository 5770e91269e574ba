"""In-memory dependencies of the orders servicer: a broker, the real projection, and a scripted decider."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

from aiokafka.errors import KafkaConnectionError
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.decisions_pb2 import GroupEvent
from groupbuy.inventory.v1.decisions_pb2 import OFFER_STATE_SOLD_OUT
from groupbuy.inventory.v1.offers_pb2 import StockOffer
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.orders.v1.orders_pb2 import Order, PlaceOrderRequest

from chassis.rpc.streaming.call_deadline import CallDeadline
from eventlog.core.errors import BrokerUnavailable, NotReady
from eventlog.core.partitioner import partition_of
from eventlog.processors.projection import position_key
from eventlog.producing.record_accumulator import Position, Record
from eventlog.state.database import Database
from eventlog.state.projection_index import Index
from eventlog.views.change_notifier import ChangeNotifier
from services.orders.api.orders import OrderServicer
from services.orders.domain.fold import OrdersFold
from services.orders.domain.model import GroupOrders
from services.orders.processors.customers import ListEntry, customers_page, group_of_order, update_list
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_LOG
from tests.scenarios.api_call import call
from tests.scenarios.decision_log import DecisionLog
from tests.scenarios.orders import Decision, Fact, Payment, group_log, payment_log

PARTITIONS = 4
TIME_MS = 1_700_000_000_000
REQUEST = "5b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11"
OTHER = "6b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11"


class Campaigns:
    """Campaigns. `late` ones are found only by reading the topic to its end."""

    def __init__(self) -> None:
        self.known = {"mug": Campaign(name="campaigns/mug", currency="CNY")}
        self.late: dict[str, Campaign] = {}
        self.away = False

    def find(self, key: str, /) -> Campaign | None:
        return self.known.get(key)

    async def get_latest(self, key: str, /) -> Campaign | None:
        if self.away:
            await asyncio.Event().wait()
        return self.known.get(key) or self.late.get(key)


class Offers:
    """The offers of stock items."""

    def __init__(self, known: dict[str, StockOffer]) -> None:
        self._known = known

    def find(self, key: str, /) -> StockOffer | None:
        return self._known.get(key)


class NothingWritten:
    """The empty database of an index that is in memory as a whole."""

    def rows(self, start: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return []


class World:
    """Broker, projection and decider in one. It is both the publisher and the view.

    With `folds`, a published fact is folded in the next turn of the loop, after the decisions that `decides` returns.
    """

    def __init__(self) -> None:
        self.partitions = PARTITIONS
        self.records: list[tuple[OrderFact, dict[str, bytes]]] = []
        #: The same records in raw form.
        self.raw: list[Record] = []
        self.timeouts: list[float | None] = []
        #: Sizes of batches, and groups whose records are not acknowledged in a batch.
        self.together: list[int] = []
        self.lost: set[str] = set()
        #: Partitions of another process.
        self.away: set[int] = set()
        self.notifier = ChangeNotifier()
        self.campaigns = Campaigns()
        self.ready = True
        self.broker = True
        self.folds = True
        self.decides: Callable[[OrderFact], Sequence[GroupEvent]] = lambda fact: ()
        #: The broker's time.
        self.now_ms = TIME_MS
        self._rules = OrdersFold()
        self._states: dict[str, GroupOrders] = {}
        self._groups: dict[str, DecisionLog[Decision]] = {}
        self._payments: dict[str, DecisionLog[Payment]] = {}
        self.forget_lists()
        #: Decisions that are in their logs and not folded; new ones are folded at once if `folds_decisions`.
        self.folds_decisions = True
        self._unfolded: list[tuple[str, str, Decision | Payment]] = []
        self._ends: Counter[tuple[str, int]] = Counter()
        #: Partitions whose ends were read at the broker.
        self.end_queries: list[int] = []
        self._positions: Counter[tuple[str, int]] = Counter()
        self.offers: dict[str, StockOffer] = {}
        self.orders = OrderServicer(self, self.campaigns, self, now_ms=lambda: TIME_MS, offers=Offers(self.offers))

    def sell_out(self, stock: str) -> None:
        """The offer of a stock item without free pieces."""
        self.offers[stock] = StockOffer(stock=stock, state=OFFER_STATE_SOLD_OUT, version=1)

    # The broker ---------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, record: Record, *, timeout_s: float | None = None) -> Position:
        assert topic == ORDERS.name
        self.timeouts.append(timeout_s)
        if not self.broker:
            raise BrokerUnavailable("away")
        fact = OrderFact.FromString(record.value)
        assert fact.group == record.key
        self.records.append((fact, dict(record.headers)))
        self.raw.append(record)
        partition = partition_of(record.key, PARTITIONS)
        offset = self._ends[topic, partition]
        self._ends[topic, partition] += 1
        if self.folds:
            asyncio.get_running_loop().call_soon(self.fold, fact)
        return Position(partition, offset, self.now_ms)

    def written_elsewhere(self, partition: int) -> int:
        """Appends a record of another process, which is not folded. Returns its offset."""
        self._ends[ORDERS.name, partition] += 1
        return self._ends[ORDERS.name, partition] - 1

    async def publish_all(
        self, topic: str, records: Sequence[Record], *, timeout_s: float | None = None
    ) -> list[Position | BrokerUnavailable]:
        self.together.append(len(records))
        found: list[Position | BrokerUnavailable] = []
        for record in records:
            if record.key in self.lost:
                found.append(BrokerUnavailable("not acknowledged"))
            else:
                found.append(await self.publish(topic, record, timeout_s=timeout_s))
        return found

    # The projection -----------------------------------------------------------------------------------------------

    def get(self, key: str) -> GroupOrders | None:
        if not self.ready or partition_of(key, PARTITIONS) in self.away:
            raise NotReady("recovering")
        return self._states.get(key)

    def position(self, topic: str, partition: int, /) -> int:
        return self._positions[topic, partition]

    async def end(self, topic: str, partition: int, /) -> int:
        self.end_queries.append(partition)
        await asyncio.sleep(0)
        if not self.broker:
            raise KafkaConnectionError("away")
        return self._ends[topic, partition]

    def fold_all(self, partition: int) -> None:
        """Folds a partition of the orders topic to its end, by records of other groups."""
        self._positions[ORDERS.name, partition] = self._ends[ORDERS.name, partition]
        self.notifier.notify(position_key(ORDERS.name, partition))

    def of_customer(
        self, customer: str, partition: int, after: tuple[int, str] | None, limit: int, /
    ) -> Sequence[ListEntry]:
        if not self.ready or partition in self.away:
            raise NotReady("recovering")
        return customers_page(self._indexes[partition].page, customer, after, limit)

    def group_of(self, order: str, partition: int, /) -> str:
        if not self.ready or partition in self.away:
            raise NotReady("recovering")
        return group_of_order(self._indexes[partition].page, order)

    def fold(self, fact: OrderFact) -> None:
        """Folds a fact after its decisions: the topics can be read in any order."""
        decided = self.decides(fact)
        if decided:
            self.decide(fact.group, *decided)
        Fact(fact, self.now_ms).fold(self._state(fact.group))
        self._list(fact.group)
        partition = partition_of(fact.group, PARTITIONS)
        self._positions[ORDERS.name, partition] += 1
        self.notifier.notify(fact.group)
        self.notifier.notify(position_key(ORDERS.name, partition))

    def decide(self, group: str, *events: GroupEvent) -> None:
        self._append(GROUP_LOG.name, group, self._groups.setdefault(group, group_log(group)).decide(TIME_MS, *events))

    def pay(self, group: str, *events: Any) -> None:
        payment = self._payments.setdefault(group, payment_log(group)).decide(TIME_MS, *events)
        self._append(PAYMENT_LOG.name, group, payment)

    def _append(self, topic: str, group: str, decision: Decision | Payment) -> None:
        self._ends[topic, partition_of(group, PARTITIONS)] += 1
        self._unfolded.append((topic, group, decision))
        if self.folds_decisions:
            self.fold_decisions()

    def fold_decisions(self) -> None:
        """Folds the decision logs to their ends."""
        while self._unfolded:
            topic, group, decision = self._unfolded.pop(0)
            decision.fold(self._state(group))
            self._list(group)
            partition = partition_of(group, PARTITIONS)
            self._positions[topic, partition] += 1
            self.notifier.notify(group)
            self.notifier.notify(position_key(topic, partition))

    def forget_lists(self) -> None:
        self._indexes = [Index(cast(Database, NothingWritten())) for _ in range(PARTITIONS)]

    def _list(self, group: str) -> None:
        update_list(self._state(group), self._indexes[partition_of(group, PARTITIONS)])

    def _state(self, group: str) -> GroupOrders:
        return self._states.setdefault(group, self._rules.initial(group))

    def deadline(self, seconds: float = 5.0) -> CallDeadline:
        return CallDeadline(call(seconds))

    # Calls --------------------------------------------------------------------------------------------------------

    async def place(self, seconds: float = 5.0, **more: object) -> tuple[Order, str]:
        """Places an order and returns it with its token."""
        response = await self.orders.PlaceOrder(place_request(**more), call(seconds))
        return response.order, response.consistency_token


def place_request(**more: object) -> PlaceOrderRequest:
    fields: dict[str, object] = {
        "customer": "ann",
        "campaign": "campaigns/mug",
        "quantity": 2,
        "currency": "CNY",
        "max_unit_price_minor": 8900,
        "payment_method": "card_ok",
        "request_id": REQUEST,
    }
    return PlaceOrderRequest(**{**fields, **more})  # type: ignore[arg-type] # fields by name


async def still_waits(task: asyncio.Task[Any]) -> None:
    """Runs a task as far as possible. It must not end."""
    await asyncio.wait([task], timeout=0)
    assert not task.done()


async def upcoming(orders: AsyncIterator[Order]) -> Order:
    """The next order of a watch, within a second."""
    async with asyncio.timeout(1):
        return await anext(orders)
