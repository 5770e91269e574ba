"""Writes the logs of many settled orders directly to the product's topics.

`python -m bench.reads.history '{"kafka": …, "groups": n, "partitions": [0, 2]}'` writes the groups of some partitions.
The real domains decide, and the real sequencers' mappers copy, chunk by chunk. Each record is appended first; its
offset and its time come from the acknowledgement, so that `replay` and `audit` read the same logs as those of a running
system. The chunk bounds the memory. Deterministic except for the broker's times.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, Tier
from groupbuy.orders.v1.orders_pb2 import PlaceOrderRequest
from groupbuy.payments.v1 import decisions_pb2 as pay
from groupbuy.payments.v1 import inbox_pb2 as pay_inbox

from bench.evening import outcome_of, set_success
from eventlog.core.aggregate import Aggregate, Domain, decide
from eventlog.core.inbox_mapper import RecordMapper
from eventlog.core.partitioner import partition_of
from eventlog.producing.batch_output import Output
from eventlog.records.envelope import HeaderTemplate, headers
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime.wall_clock import wall_clock_ms
from services.groups.domain.domain import GroupDomain
from services.groups.processors.sequencer import GroupInboxMapper
from services.orders.api.placing.event_publisher import OrderEventPublisher
from services.orders.api.placing.parsed_order import parse_order
from services.orders.domain.ids import group_id, order_id
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.output.provider_calls import calls_of, idempotency_key
from services.payments.processors.sequencer import PaymentInboxMapper
from shared_kernel.topics import ALL, CAMPAIGNS, GROUP_INBOX, GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG

#: Orders of a group.
SEATS = 5
CAMPAIGN = "bench"
PARTITIONS = 4
#: Groups of one partition that are in progress at the same time.
CHUNK = 400
BATCH_BYTES = 512 * 1024

#: (key, value, headers)
New = tuple[bytes, bytes, list[tuple[str, bytes]]]


class Stored(NamedTuple):
    """A record in a log, with the fields that the sequencers read."""

    offset: int
    #: The broker's time, in milliseconds since the epoch.
    timestamp: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def campaign() -> Campaign:
    """The campaign of all groups."""
    return Campaign(
        name=f"campaigns/{CAMPAIGN}",
        product="mug",
        currency="CNY",
        solo_price_minor=9_900,
        tiers=[Tier(members=2, unit_price_minor=8_900), Tier(members=SEATS, unit_price_minor=7_900)],
        capacity=SEATS,
        window=Duration(seconds=86_400),
        hold_window=Duration(seconds=3_600),
        rules_version=1,
        revision=1,
    )


def customer(index: int, seat: int) -> str:
    """The customer who takes a seat of a group; each customer places ten orders."""
    return f"c{seat}-{index // 10:010}"


def group_of(index: int) -> str:
    """Id of a group by its number."""
    return group_id(customer(index, 0), f"g{index}")


def order_of(index: int, seat: int) -> str:
    """Id of the order of a seat."""
    return order_id(group_of(index), customer(index, seat), f"g{index}" if not seat else f"s{seat}")


def request(index: int, seat: int, group: str) -> PlaceOrderRequest:
    """The request of the shopper who takes a seat."""
    return PlaceOrderRequest(
        campaign=f"campaigns/{CAMPAIGN}",
        group=f"groups/{group}" if seat else "",
        customer=customer(index, seat),
        quantity=1,
        currency="CNY",
        max_unit_price_minor=8_900,
        payment_method="card_ok",
        request_id=f"s{seat}" if seat else f"g{index}",
    )


def respond(call: pay.ProviderCall) -> pay_inbox.ProviderOutcome:
    """The result of a successful provider call. Raises ValueError for a call that settled orders don't need."""
    outcome = outcome_of(call)
    set_success(outcome, call, f"h-{call.order}")
    return outcome


class _NoPublisher:
    """Replaces the orders service's publisher: a Lane appends the facts itself."""

    partitions = PARTITIONS

    async def publish_all(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    publish = publish_all


@dataclass
class Lane:
    """One partition of all topics: shoppers, sequencers, deciders and effects, one chunk of groups at a time."""

    producer: Any
    partition: int

    def __post_init__(self) -> None:
        self._facts = OrderEventPublisher(_NoPublisher(), wall_clock_ms)
        offer = campaign()
        mapper = GroupInboxMapper(ORDERS.name, {CAMPAIGN: offer}.get, _unknown)
        self._facts_to_group = mapper.for_partition(ORDERS.name, self.partition)
        self._decisions_to_group = mapper.for_partition(PAYMENT_LOG.name, self.partition)
        self._decisions_to_payments = PaymentInboxMapper().for_partition(GROUP_LOG.name, self.partition)
        self._group, self._payments = GroupDomain(), GroupPaymentsDomain()
        self._group_stamp = HeaderTemplate(GROUP_LOG.type_name, f"/{GROUP_LOG.writer}")
        self._payments_stamp = HeaderTemplate(PAYMENT_LOG.type_name, f"/{PAYMENT_LOG.writer}")
        self.records = 0

    async def play(self, indexes: Sequence[int]) -> None:
        """Writes the groups with these numbers, from the first order to the last settlement."""
        groups: dict[bytes, Aggregate[Any]] = {}
        group_payments: dict[bytes, Aggregate[Any]] = {}
        placed = await self.append(ORDERS, list(self._orders(indexes)))
        to_group, outcomes = list(_copied(placed, self._facts_to_group)), list[New]()
        while to_group or outcomes:
            group_inputs = await self.append(GROUP_INBOX, to_group)
            decided = await self.append(GROUP_LOG, _decided(group_inputs, self._group, groups, self._group_stamp))
            to_payments = [*_copied(decided, self._decisions_to_payments), *outcomes]
            payment_inputs = await self.append(PAYMENT_INBOX, to_payments)
            paid = await self.append(
                PAYMENT_LOG, _decided(payment_inputs, self._payments, group_payments, self._payments_stamp)
            )
            to_group = list(_copied(paid, self._decisions_to_group))
            outcomes = list(_outcomes(paid))
        settled = sum(group.state.settled == SEATS for group in groups.values())
        if settled != len(indexes):
            raise SystemExit(f"{settled} of {len(indexes)} groups are settled")

    def _orders(self, indexes: Iterable[int]) -> Iterator[New]:
        """The orders, seat by seat, so that the groups fill side by side."""
        names = [(index, group_of(index)) for index in indexes]
        for seat in range(SEATS):
            for index, group in names:
                fact = self._facts.placed(parse_order(request(index, seat, group)))
                yield fact.key.encode(), fact.value, list(fact.headers)

    async def append(self, topic: TopicSpec, records: Sequence[New]) -> list[Stored]:
        """Appends records; returns them as they are in the log."""
        stored: list[Stored] = []

        def acknowledged(first: int, count: int, timestamp_ms: int, mark: object) -> None:
            begin = len(stored)
            for n, record in enumerate(records[begin : begin + count]):
                stored.append(Stored(first + n, timestamp_ms, *record))

        output = Output(self.producer, topic.name, self.partition, acknowledged)
        for name, value, made in records:
            output.append(name, value, made)
            if output.full:
                await output.send(full=True)
        await asyncio.gather(*await output.send())
        # Batches of one partition are acknowledged in order, each before the next is sent.
        while len(stored) < len(records):
            await asyncio.sleep(0)
        self.records += len(stored)
        return stored


async def _unknown(_: str) -> Campaign | None:
    return None


def _copied(records: Iterable[Stored], mapper: RecordMapper) -> Iterator[New]:
    """Copies records as a sequencer does."""
    for record in records:
        value = mapper.map_record(record)
        if value is not None:
            yield record.key, value, record.headers


def _decided(
    inputs: Iterable[Stored], domain: Domain[Any], aggregates: dict[bytes, Aggregate[Any]], stamp: HeaderTemplate
) -> list[New]:
    """Decides records as a decider does."""
    decisions: list[New] = []
    for record in inputs:
        aggregate = aggregates.get(record.key)
        if aggregate is None:
            name = record.key.decode()
            aggregate = aggregates[record.key] = Aggregate(name, domain.initial(name))
        decision = decide(domain, aggregate, record.value, record.offset, record.timestamp)
        if decision is not None:
            made = stamp.headers(f"{aggregate.key}:{aggregate.version}", aggregate.time_ms)
            decisions.append((record.key, decision, made))
    return decisions


def _outcomes(decisions: Iterable[Stored]) -> Iterator[New]:
    """Calls the provider as the effects do; every call succeeds."""
    for record in decisions:
        for call in calls_of(pay.PaymentDecision.FromString(record.value)):
            outcome = respond(call)
            name = f"{idempotency_key(call)}:{outcome.WhichOneof('result')}"
            subject = f"groups/{record.key.decode()}/orders/{call.order}/payment"
            kind = pay_inbox.ProviderOutcome.DESCRIPTOR.full_name
            made = headers(name, kind, "/payments", record.timestamp, subject)
            yield record.key, pay_inbox.PaymentInput(outcome=outcome).SerializeToString(), made


def chunks(groups: int, partition: int, size: int = CHUNK) -> Iterator[list[int]]:
    """Numbers of the groups of one partition, in chunks."""
    found: list[int] = []
    for index in range(groups):
        if partition_of(group_of(index), PARTITIONS) == partition:
            found.append(index)
            if len(found) == size:
                yield found
                found = []
    if found:
        yield found


def _producer(kafka: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(bootstrap_servers=kafka, acks="all", max_batch_size=BATCH_BYTES, max_request_size=1_000_000)


async def write(kafka: str, groups: int, partitions: Sequence[int]) -> int:
    """Writes the groups of some partitions; returns the number of records."""
    producer = _producer(kafka)
    await producer.start()
    try:
        lanes = [Lane(producer, partition) for partition in partitions]

        async def all_of(lane: Lane) -> None:
            for indexes in chunks(groups, lane.partition):
                await lane.play(indexes)

        await asyncio.gather(*map(all_of, lanes))
        return sum(lane.records for lane in lanes)
    finally:
        await producer.stop()


async def write_campaign(kafka: str) -> None:
    """Writes the campaign."""
    producer = _producer(kafka)
    await producer.start()
    try:
        made = headers(
            f"{CAMPAIGN}:1", Campaign.DESCRIPTOR.full_name, "/groupbuy/groups", wall_clock_ms(), campaign().name
        )
        value, partition = campaign().SerializeToString(), partition_of(CAMPAIGN, PARTITIONS)
        await producer.send_and_wait(CAMPAIGNS.name, value, key=CAMPAIGN.encode(), partition=partition, headers=made)
    finally:
        await producer.stop()


async def commit_ends(kafka: str) -> None:
    """Commits the ends of all topics for each consumer group of the product."""
    readers = sorted({reader for topic in ALL for reader in topic.readers})
    for reader in readers:
        tps = [TopicPartition(topic.name, p) for topic in ALL if reader in topic.readers for p in range(PARTITIONS)]
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=reader, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign(tps)
            await consumer.commit(await consumer.end_offsets(tps))
        finally:
            await consumer.stop()


def main() -> None:
    """Writes the groups of the job in the argument; prints the number of records."""
    print(asyncio.run(write(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
