"""Bad records in the topics of the inventory service, and in the groups' log for its router, as docs/poison.md says.

As in test_poison.py each kind has a partition of its own, and pieces of a healthy partition are sold throughout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from typing import Any
from uuid import uuid4

import grpc
import pytest
from aiokafka import AIOKafkaProducer
from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest
from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupEvent, GroupOpened, SeatRefused, Terms
from groupbuy.inventory.v1.decisions_pb2 import (
    AllowanceDecision,
    AllowanceEvent,
    GroupHeard,
    StockDecision,
    StockEvent,
)
from groupbuy.inventory.v1.inbox_pb2 import AllowanceInput, GroupAllowance, GroupUnits, OrderRequest, StockInput
from groupbuy.inventory.v1.stocks_pb2 import CreateStockRequest, GetStockRequest, Stock, UpdateStockRequest
from groupbuy.inventory.v1.stocks_pb2_grpc import StockServiceStub
from groupbuy.log.v1.log_pb2 import Source

from devstack.product import INVENTORY, WITH_INVENTORY
from devstack.stack import Stack
from docs import poison_table
from docs.poison_table import KINDS, STOPS
from eventlog.core.partitioner import partition_of
from services.orders.domain.ids import group_id
from shared_kernel import topics
from tests.integration.shop import CALL_S, retried, until
from tests.integration.test_poison import (
    HEALTHY,
    KEPT_WAITING_S,
    LARGEST,
    MAX,
    NUMBER,
    PARTITIONS,
    UNKNOWN,
    World,
    Written,
    generic,
    key_of,
    record_skipped,
    stops_in,
)
from tests.integration.topic_ends import last_record

#: Partitions of the kinds: the inboxes' and the groups' log share theirs, as they have different readers.
BLOCKS = {topics.STOCK_LOG.name: 1, topics.ALLOWANCE_LOG.name: 2}
LOGS: dict[str, tuple[Any, Any, Any]] = {
    topics.GROUP_LOG.name: (GroupDecision, "group", GroupEvent(seat_refused=SeatRefused(order=str(uuid4())))),
    topics.STOCK_LOG.name: (StockDecision, "stock", StockEvent(heard=GroupHeard(group="g"))),
    topics.ALLOWANCE_LOG.name: (AllowanceDecision, "allowance", AllowanceEvent(heard=GroupHeard(group="g"))),
}
SERVICES = ("groups", INVENTORY)
#: 37 partitions of nine readers are recovered at once.
RESTART_S = 180.0


def place_of(topic: str, kind: str) -> int:
    return BLOCKS.get(topic, 0) * len(KINDS) + NUMBER[kind]


def stock_key(partition: int) -> str:
    return next(key for n in count() if partition_of(key := f"s-{n}-{partition}", PARTITIONS) == partition)


class Pieces(World):
    """A stack with the inventory service."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self._channel = grpc.insecure_channel(stack.endpoints[INVENTORY])
        self.stocks: Any = StockServiceStub(self._channel)
        self.stock(HEALTHY)
        self.limited = self._campaign("limited", stock=f"stocks/{stock_key(HEALTHY)}", limit_per_customer=100)

    def close(self) -> None:
        self._channel.close()

    def _campaign(self, key: str, **more: Any) -> str:
        offer = Campaign(
            product="mug",
            currency="CNY",
            solo_price_minor=9_900,
            capacity=2,
            window=Duration(seconds=3_600),
            hold_window=Duration(seconds=60),
            **more,
        )
        offer.tiers.add(members=2, unit_price_minor=8_900)
        request = CreateCampaignRequest(campaign=offer, campaign_id=key, request_id=str(uuid4()))
        made: Campaign = retried(lambda: self.shop.campaigns.CreateCampaign(request, timeout=CALL_S))
        return made.name

    def stock(self, partition: int) -> str:
        """Creates the stock item of a partition."""
        request = CreateStockRequest(stock=Stock(total=1_000), stock_id=stock_key(partition), request_id=str(uuid4()))
        made: Stock = retried(lambda: self.stocks.CreateStock(request, timeout=CALL_S))
        return made.name

    def edit(self, partition: int) -> None:
        """Edits the stock item of a partition, for which its decider and its view have to work."""
        name = f"stocks/{stock_key(partition)}"
        found: Stock = retried(lambda: self.stocks.GetStock(GetStockRequest(name=name), timeout=CALL_S))
        changed = UpdateStockRequest(stock=Stock(name=name, total=found.total + 1), request_id=str(uuid4()))
        made: Stock = retried(lambda: self.stocks.UpdateStock(changed, timeout=CALL_S))
        assert made.total == found.total + 1

    def sell(self, allowance: int, group: int = HEALTHY) -> None:
        """Sells a piece of the healthy stock item to a customer whose allowance is in a partition."""
        campaign = self.limited.removeprefix("campaigns/")
        customer = next(one for n in count() if partition_of(f"{campaign}/{(one := f'c{n}')}", PARTITIONS) == allowance)
        request_id = next(
            one for _ in count() if partition_of(group_id(customer, (one := str(uuid4()))), PARTITIONS) == group
        )
        placed = self.shop.place(self.limited, solo=True, customer=customer, request_id=request_id)
        self.shop.wait(placed, "SETTLED")

    def stopped(self) -> set[tuple[str, str, int, int]]:
        return {one for service in SERVICES for one in stops_in(self.stack.log(service))}


def next_decision(topic: str, last: Any, value: bytes, kind: str) -> bytes:
    """The next decision of a key, with one defect."""
    message, key, event = LOGS[topic]
    made = message(
        version=last.version + 1,
        cause=last.cause + 1,
        time_ms=last.time_ms,
        previous_sha256=sha256(value).digest(),
        events=[event],
    )
    setattr(made, key, getattr(last, key))
    match kind:
        case "fork":
            made.version, made.previous_sha256 = last.version, last.previous_sha256
        case "gap":
            made.version += 1
        case "extreme":
            made.cause, made.time_ms = MAX, MAX
        case "unknown body":
            del made.events[:]
            tag = made.DESCRIPTOR.fields_by_name["events"].number << 3 | 2
            return bytes(made.SerializeToString()) + bytes((tag, len(UNKNOWN))) + UNKNOWN
    return bytes(made.SerializeToString())


async def bad_decision(kafka: str, topic: str, kind: str, partition: int) -> tuple[bytes | None, bytes | None]:
    message, name, _ = LOGS[topic]
    value = await last_record(kafka, topic, partition)
    last = message.FromString(value)
    other = key_of((partition + 1) % PARTITIONS)
    match kind:
        case "repeat":
            return getattr(last, name).encode(), value
        case "wrong partition":
            foreign = message(version=1, cause=1, time_ms=1)
            setattr(foreign, name, other)
            return other.encode(), foreign.SerializeToString()
        case "future rules":
            own = key_of(partition)
            opened = GroupEvent(opened=GroupOpened(terms=Terms(rules_version=99, campaign="c"), leader_order="o"))
            return own.encode(), GroupDecision(
                group=own, version=1, cause=10**6, time_ms=1, events=[opened]
            ).SerializeToString()
        case "fork" | "gap" | "extreme" | "unknown body":
            return getattr(last, name).encode(), next_decision(topic, last, value, kind)
    return generic(kind, partition, value) or (None, None)


def bad_inputs(topic: str, kind: str, partition: int) -> list[tuple[bytes | None, bytes | None]]:
    """The bad record of an inbox, after the record that it repeats or contradicts."""
    own, other = key_of(partition), key_of((partition + 1) % PARTITIONS)

    def asked(group: str, cause: int, pieces: int = 1) -> bytes:
        source = Source(topic=topics.GROUP_LOG.name, partition=partition)
        if topic == topics.STOCK_INBOX.name:
            units = GroupUnits(group=group, version=1, cause=cause, at_least=pieces, at_most=pieces)
            return StockInput(source=source, group_units=units).SerializeToString()
        order = OrderRequest(order=str(uuid4()), quantity=min(pieces, 2**31 - 1))
        allowance = GroupAllowance(group=group, version=1, cause=cause, limit=1, requested=[order])
        return AllowanceInput(source=source, group_allowance=allowance).SerializeToString()

    group = str(uuid4())
    first = asked(group, 5)
    match kind:
        case "wrong partition":
            return [(other.encode(), first)]
        case "unknown body":
            return [(own.encode(), UNKNOWN)]
        case "fork":
            return [(own.encode(), first), (own.encode(), asked(group, 5, 7))]
        case "repeat":
            return [(own.encode(), first), (own.encode(), first)]
        case "gap":
            return [(own.encode(), first), (own.encode(), asked(group, 10**9))]
        case "extreme":
            return [(own.encode(), asked(group, MAX, MAX))]
    made = generic(kind, partition, first)
    assert made is not None
    return [made]


async def write_all(world: Pieces) -> None:
    """Appends the bad record of every cell of the table."""
    kafka = world.stack.kafka
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_request_size=2 * LARGEST)
    await producer.start()
    try:
        for topic, kinds in poison_table.WITH_INVENTORY.items():
            for kind in kinds:
                partition = place_of(topic, kind)
                if topic in LOGS:
                    records = [await bad_decision(kafka, topic, kind, partition)]
                else:
                    records = bad_inputs(topic, kind, partition)
                for key, value in records:
                    done = await producer.send_and_wait(topic, value, key=key, partition=partition)
                world.written.append(Written(topic, kind, partition, done.offset))
    finally:
        await producer.stop()


def expected(world: Pieces) -> set[tuple[str, str, int, int]]:
    return {
        (reader, one.topic, one.partition, one.offset)
        for one in world.written
        for reader, outcome in poison_table.WITH_INVENTORY[one.topic][one.kind].items()
        if outcome == STOPS
    }


def of_inventory(stopped: set[tuple[str, str, int, int]]) -> set[tuple[str, str, int, int]]:
    """Quarantines in the readers that this test is about: others read the groups' log too."""
    return {one for one in stopped if one[0] in topics.OF_INVENTORY}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pieces]:
    with Stack(tmp_path_factory.mktemp("pieces"), partitions=PARTITIONS, plan=WITH_INVENTORY) as stack:
        made = Pieces(stack)
        yield made
        made.close()


def as_expected(world: Pieces) -> None:
    try:
        until(lambda: expected(world) <= world.stopped(), KEPT_WAITING_S)
    except AssertionError:
        names = {(one.topic, one.partition): one.kind for one in world.written}
        missing = sorted(expected(world) - world.stopped())
        raise AssertionError([(names.get(one[1:3]), *one) for one in missing]) from None
    assert of_inventory(world.stopped()) == expected(world)


@pytest.mark.timeout(500)
def test_every_bad_record_of_pieces_has_its_outcome_live_and_after_a_restart(world: Pieces) -> None:
    for kind in KINDS:
        world.stock(place_of(topics.STOCK_LOG.name, kind))
        world.sell(place_of(topics.ALLOWANCE_LOG.name, kind), group=place_of(topics.GROUP_LOG.name, kind))
    pids = {service: world.stack.pid(service) for service in SERVICES}
    asyncio.run(write_all(world))
    as_expected(world)
    world.sell(HEALTHY)
    world.edit(HEALTHY)
    assert {service: world.stack.pid(service) for service in SERVICES} == pids, "a process ended"
    goes_on(world, topics.STOCK_LOG.name, "fork")
    goes_on(world, topics.STOCK_INBOX.name, "bad bytes")
    for service in SERVICES:
        world.stack.kill(service)
    for service in SERVICES:
        world.stack.wait_serving(service, RESTART_S)
    pids = {service: world.stack.pid(service) for service in SERVICES}
    skipped = {
        place_of(topics.STOCK_LOG.name, "fork"),
        place_of(topics.STOCK_INBOX.name, "bad bytes"),
    }
    before = {one for one in expected(world) if one[2] not in skipped}

    def again() -> bool:
        return all(
            sum(f"{reader}: partition {partition} is quarantined" in line for line in log) >= 2
            for reader, _, partition, _ in before
            for log in [world.stack.log(reader.split(".")[1]).splitlines()]
        )

    until(again, KEPT_WAITING_S)
    world.sell(HEALTHY)
    world.edit(HEALTHY)
    goes_on(world, topics.STOCK_LOG.name, "gap")
    assert {service: world.stack.pid(service) for service in SERVICES} == pids, "a process ended"


def goes_on(world: Pieces, topic: str, kind: str) -> None:
    """Records the skip of a bad record. Then a stock item of its partition is created or edited."""
    (one,) = [one for one in world.written if (one.topic, one.kind) == (topic, kind)]
    asyncio.run(record_skipped(world.stack.kafka, one))
    if topic == topics.STOCK_LOG.name:
        world.edit(one.partition)
    else:
        world.stock(one.partition)
