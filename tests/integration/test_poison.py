"""Every kind of bad record in every topic, on a real broker, has the documented effects, also after a restart.

The effects are those of docs/poison.md. Each kind has a partition of its own. Orders of a healthy partition continue
throughout.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupEvent, GroupOpened, SeatRefused, Terms
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.log.v1.log_pb2 import Source, Tick
from groupbuy.orders.v1.facts_pb2 import OrderFact, OrderPlaced
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, PaymentEvent, PaymentReleased
from groupbuy.payments.v1.inbox_pb2 import PaymentInput
from groupbuy.registry.v1.registry_pb2 import RecordSkipped, RegistryRecord

from devstack.stack import Stack
from docs.poison_table import BURIED, COPIED, IGNORED, KINDS, STOPS, TABLE
from eventlog.core.partitioner import partition_of
from groupbuy_testing.running import RunningStack
from services.orders.domain.ids import group_id
from shared_kernel import log_registry, topics
from tests.integration.shop import Shop, until
from tests.integration.topic_ends import last_record

KEPT_WAITING_S = 90.0
LARGEST = 1_000_000
MAX = 2**63 - 1
SERVICES = ("orders", "groups", "payments")
#: One partition for each pair of a topic and a kind. The last one stays healthy.
PLACES = {
    topics.GROUP_INBOX.name: 0,
    topics.PAYMENT_INBOX.name: 0,
    topics.GROUP_LOG.name: 1,
    topics.PAYMENT_LOG.name: 2,
}
NUMBER = {kind: number for number, kind in enumerate(KINDS)}
PARTITIONS = 3 * len(KINDS) + 1
HEALTHY = PARTITIONS - 1
_STOPPED = re.compile(r"(groupbuy\.\w+\.[\w-]+): partition (\d+) is quarantined: (\S+)-(\d+) offset (\d+)")
#: An unknown field: length-delimited, number 500.
UNKNOWN = b"\xa2\x1f\x01x"


class Written(NamedTuple):
    """A bad record."""

    topic: str
    kind: str
    partition: int
    offset: int


class World:
    """A stack, with direct access to its topics."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.running = RunningStack(stack)
        self.shop = Shop(self.running)
        self.campaign = ""
        self.written: list[Written] = []

    def order(self, partition: int) -> str:
        """Places and settles a solo order in a partition. Returns its group."""
        customer = f"c-{uuid4().hex[:8]}"
        while True:
            request = str(uuid4())
            group = group_id(customer, request)
            if partition_of(group, PARTITIONS) == partition:
                break
        placed = self.shop.place(self.campaign, solo=True, customer=customer, request_id=request)
        self.shop.wait(placed, "SETTLED")
        return group

    def stopped(self) -> set[tuple[str, str, int, int]]:
        """Reader, topic, partition and offset of every quarantine, from the services' logs."""
        return {one for service in SERVICES for one in stops_in(self.stack.log(service))}


def stops_in(log: str) -> set[tuple[str, str, int, int]]:
    """Reader, topic, partition and offset of every quarantine that a log tells."""
    found = _STOPPED.findall(log)
    return {(reader, topic, int(partition), int(offset)) for reader, _, topic, partition, offset in found}


def key_of(partition: int) -> str:
    while partition_of(found := str(uuid4()), PARTITIONS) != partition:
        continue
    return found


def place_of(topic: str, kind: str) -> int:
    return PLACES.get(topic, 0) * len(KINDS) + NUMBER[kind] if topic in PLACES else HEALTHY


def generic(kind: str, partition: int, good: bytes) -> tuple[bytes | None, bytes | None] | None:
    """Key and value of a bad record that is the same in every topic."""
    key = key_of(partition).encode()
    match kind:
        case "bad bytes":
            return key, b"\xff\xff\xff"
        case "null value":
            return key, None
        case "null key":
            return None, good
        case "bad key":
            return b"\xff\xfe", good
        case "1 MiB":
            return key, b"\xff" * LARGEST
    return None


def fact(group: str, **fields: Any) -> bytes:
    placed = OrderPlaced(solo=True, opens_group=True, currency="CNY", quantity=1, max_unit_price_minor=9_900)
    for name, value in fields.items():
        setattr(placed, name, value)
    return OrderFact(group=group, order=str(uuid4()), customer="c", placed=placed).SerializeToString()


def foreign(last: Any, kind: str) -> bytes:
    """The next decision of a key, with one defect."""
    event: Any
    if isinstance(last, GroupDecision):
        event = GroupEvent(seat_refused=SeatRefused(order=str(uuid4())))
    else:
        event = PaymentEvent(payment_released=PaymentReleased(order=str(uuid4())))
    made = type(last)(
        group=last.group,
        version=last.version + 1,
        cause=last.cause + 1,
        time_ms=last.time_ms,
        previous_sha256=_digest(last),
        events=[event],
    )
    match kind:
        case "fork":
            made.version, made.previous_sha256 = last.version, last.previous_sha256
        case "gap":
            made.version += 1
        case "extreme":
            made.cause, made.time_ms = MAX, MAX
    value: bytes = made.SerializeToString()
    if kind == "unknown body":
        del made.events[:]
        # An event whose body is the unknown field. The tag of `events` is taken from the decision's descriptor.
        tag = made.DESCRIPTOR.fields_by_name["events"].number << 3 | 2
        value = made.SerializeToString() + bytes((tag, len(UNKNOWN))) + UNKNOWN
    return value


_VALUES: dict[bytes, bytes] = {}


def _digest(decision: Any) -> bytes:
    return sha256(_VALUES[decision.SerializeToString()]).digest()


async def last_of(kafka: str, topic: str, partition: int, kind: Any) -> tuple[Any, bytes]:
    """The last decision of a partition, and its bytes."""
    value = await last_record(kafka, topic, partition)
    decision = kind.FromString(value)
    _VALUES[decision.SerializeToString()] = value
    return decision, value


async def bad(kafka: str, topic: str, kind: str, partition: int) -> tuple[bytes | None, bytes | None]:
    """Key and value of a bad record."""
    own, other = key_of(partition), key_of((partition + 1) % PARTITIONS)
    if topic in (topics.GROUP_LOG.name, topics.PAYMENT_LOG.name):
        message: Any = GroupDecision if topic == topics.GROUP_LOG.name else PaymentDecision
        last, value = await last_of(kafka, topic, partition, message)
        key = last.group.encode()
        match kind:
            case "repeat":
                return key, value
            case "wrong partition":
                return other.encode(), message(group=other, version=1, cause=1, time_ms=1).SerializeToString()
            case "future rules":
                terms = Terms(rules_version=99, campaign="c")
                opened = GroupEvent(opened=GroupOpened(terms=terms, leader_order="o"))
                return own.encode(), message(
                    group=own, version=1, cause=10**6, time_ms=1, events=[opened]
                ).SerializeToString()
            case "fork" | "gap" | "extreme" | "unknown body":
                return key, foreign(last, kind)
        return generic(kind, partition, value) or (None, None)
    if topic == topics.ORDERS.name:
        match kind:
            case "wrong partition":
                return other.encode(), fact(other)
            case "unknown body":
                return own.encode(), OrderFact(group=own, order="o").SerializeToString() + UNKNOWN
            case "extreme":
                return own.encode(), fact(own, quantity=2**31 - 1, max_unit_price_minor=MAX)
        return generic(kind, partition, fact(own)) or (own.encode(), fact(own))
    if topic == topics.CAMPAIGNS.name:
        match kind:
            case "unknown body":
                return b"known", UNKNOWN
            case "extreme":
                return b"extreme", Campaign(
                    name="campaigns/extreme", capacity=2**31 - 1, solo_price_minor=MAX
                ).SerializeToString()
        found = generic(kind, partition, Campaign(name="campaigns/x").SerializeToString()) or (None, None)
        return (b"known" if found[0] is not None and kind == "null value" else found[0]), found[1]
    message = GroupInput if topic == topics.GROUP_INBOX.name else PaymentInput
    match kind:
        case "wrong partition":
            return other.encode(), message(tick=Tick(due_ms=1)).SerializeToString()
        case "unknown body":
            return own.encode(), UNKNOWN
        case "extreme":
            return own.encode(), message(tick=Tick(due_ms=MAX)).SerializeToString()
        case "future rules" if message is GroupInput:
            campaign = Campaign(name="campaigns/x", rules_version=99)
            return own.encode(), GroupInput(order_fact=fact(own), campaign=campaign).SerializeToString()
        case "future rules":
            event = GroupEvent(opened=GroupOpened(terms=Terms(rules_version=99)))
            decision = GroupDecision(group=own, version=1, events=[event]).SerializeToString()
            return own.encode(), PaymentInput(group_decision=decision).SerializeToString()
        case "fork" | "gap" | "repeat":
            source = Source(topic="orders.order.v1", partition=partition, offset=MAX if kind == "gap" else 0)
            return own.encode(), message(source=source, tick=Tick(due_ms=2)).SerializeToString()
    return generic(kind, partition, message(tick=Tick(due_ms=1)).SerializeToString()) or (None, None)


async def write_all(world: World) -> None:
    """Appends the bad record of every cell of the table."""
    kafka = world.stack.kafka
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_request_size=2 * LARGEST)
    await producer.start()
    try:
        for topic, kinds in TABLE.items():
            for kind in kinds:
                partition = place_of(topic, kind)
                key, value = await bad(kafka, topic, kind, partition)
                for _ in range(2 if kind == "repeat" and topic not in PLACES else 1):
                    done = await producer.send_and_wait(topic, value, key=key, partition=partition)
                world.written.append(Written(topic, kind, partition, done.offset))
    finally:
        await producer.stop()


def expected(world: World) -> set[tuple[str, str, int, int]]:
    """The quarantines that have to occur: at the bad records, and at the copies of some."""
    return {
        (reader, one.topic, one.partition, one.offset)
        for one in world.written
        for reader, outcome in TABLE[one.topic][one.kind].items()
        if outcome == STOPS
    }


def without_copies(world: World, stopped: set[tuple[str, str, int, int]]) -> set[tuple[str, str, int, int]]:
    """Quarantines without the inboxes that a record with an unknown event was copied to."""
    copied = {one.partition for one in world.written if COPIED in TABLE[one.topic][one.kind].values()}
    inboxes = (topics.GROUP_INBOX.name, topics.PAYMENT_INBOX.name)
    return {one for one in stopped if not (one[1] in inboxes and one[2] in copied)}


async def dead_letters(kafka: str) -> set[tuple[str, int, int]]:
    """Service, partition and offset of the dead letters of order facts."""
    found = set()
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        for service in ("groups", "orders"):
            tp = TopicPartition(topics.dlq_name(topics.ORDERS, service), HEALTHY)
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            end = (await consumer.end_offsets([tp]))[tp]
            while await consumer.position(tp) < end:
                for record in (await consumer.getmany(tp, timeout_ms=1_000)).get(tp, []):
                    found.add((service, HEALTHY, int(dict(record.headers)["dlq-origin-offset"])))
    finally:
        await consumer.stop()
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Stack(tmp_path_factory.mktemp("poison"), partitions=PARTITIONS) as stack:
        made = World(stack)
        made.campaign = made.shop.campaign()
        yield made


def as_expected(world: World) -> None:
    def so() -> bool:
        return expected(world) <= world.stopped()

    try:
        until(so, KEPT_WAITING_S)
    except AssertionError:
        missing = sorted(expected(world) - world.stopped())
        names = {(one.topic, one.partition): one.kind for one in world.written}
        raise AssertionError([(names.get(one[1:3]), *one) for one in missing]) from None
    assert without_copies(world, world.stopped()) == expected(world)


@pytest.mark.timeout(400)
def test_every_bad_record_has_its_outcome_live_and_after_a_restart(world: World) -> None:
    for topic in (topics.GROUP_LOG.name, topics.PAYMENT_LOG.name):
        for kind in TABLE[topic]:
            world.order(place_of(topic, kind))
    pids: Mapping[str, int | None] = {service: world.stack.pid(service) for service in SERVICES}
    asyncio.run(write_all(world))
    as_expected(world)
    wanted = {
        (service, one.partition, one.offset)
        for one in world.written
        if one.topic == topics.ORDERS.name and BURIED in TABLE[one.topic][one.kind].values()
        for service in ("groups", "orders")
    }
    until(lambda: asyncio.run(dead_letters(world.stack.kafka)) >= wanted, KEPT_WAITING_S)
    for one in world.written:
        for service, outcome in TABLE[one.topic][one.kind].items():
            if outcome == IGNORED and one.kind != "null value":
                assert f"{one.topic}" in world.stack.log(service)
    world.order(HEALTHY)
    assert {service: world.stack.pid(service) for service in SERVICES} == pids, "a process ended"
    # All readers of a topic skip a foreign record.
    goes_on(world, topics.GROUP_LOG.name, "fork")
    goes_on(world, topics.PAYMENT_LOG.name, "gap")
    # The skip takes effect without a restart, and there is no crash loop.
    skipped = {place_of(topics.GROUP_LOG.name, "fork"), place_of(topics.PAYMENT_LOG.name, "gap")}
    before = {one for one in world.stopped() if one[2] not in skipped}
    for service in SERVICES:
        world.stack.kill(service)
    for service in SERVICES:
        world.stack.wait_serving(service)
    pids = {service: world.stack.pid(service) for service in SERVICES}
    world.order(HEALTHY)

    def again() -> bool:
        return all(
            sum(f"{reader}: partition {partition} is quarantined" in line for line in log) >= 2
            for reader, _, partition, _ in before
            for log in [world.stack.log(reader.split(".")[1]).splitlines()]
        )

    until(again, KEPT_WAITING_S)
    assert {service: world.stack.pid(service) for service in SERVICES} == pids, "a process ended"
    goes_on(world, topics.GROUP_LOG.name, "bad bytes")
    goes_on(world, topics.PAYMENT_LOG.name, "fork")
    assert {service: world.stack.pid(service) for service in SERVICES} == pids, "a process ended"


def goes_on(world: World, topic: str, kind: str) -> None:
    """Records the skip of a bad record. Then an order of its partition is settled, which needs all readers."""
    (one,) = [one for one in world.written if (one.topic, one.kind) == (topic, kind)]
    asyncio.run(record_skipped(world.stack.kafka, one))
    world.order(one.partition)


async def record_skipped(kafka: str, one: Written) -> None:
    """The registry entry that `groupbuy-ops skip` writes."""
    tp = TopicPartition(one.topic, one.partition)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([tp])
        consumer.seek(tp, one.offset)
        value = (await consumer.getmany(tp, timeout_ms=10_000, max_records=1))[tp][0].value
    finally:
        await consumer.stop()
    entry = RecordSkipped(
        topic=one.topic, partition=one.partition, offset=one.offset, sha256=sha256(value or b"").digest(), reason="test"
    )
    async with log_registry.Writer(kafka, "test", PARTITIONS) as writer:
        record = RegistryRecord(record_skipped=entry)
        await writer.append(log_registry.key_of(record), record)
