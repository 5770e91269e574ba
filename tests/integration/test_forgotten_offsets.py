"""The broker forgets the committed offsets of groups that were empty for a week. Services continue where they stopped.

The broker has Kafka's default retention here, and the week is simulated by deleting the groups. The file also tests the
operators' commands for offsets, dead letters and undecodable records, and their entries in the log's registry.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import DeleteGroupsRequest
from groupbuy.log.v1.log_pb2 import Tick
from groupbuy.orders.v1 import orders_pb2 as pb
from groupbuy.payments.v1.inbox_pb2 import PaymentInput
from groupbuy.registry.v1.registry_pb2 import Redriven, RegistryRecord

from devstack.kafka.broker import Broker
from devstack.stack import Stack
from eventlog.core.partitioner import partition_of
from eventlog.records.dead_letters import ORIGIN_OFFSET, ORIGIN_TOPIC
from groupbuy_testing.running import RunningStack, System
from ops.audit.run import audit, wait_quiet
from ops.broker import dlq
from ops.broker.log_creation import create_log
from shared_kernel import log_registry, topics
from shared_kernel.log_registry import Writer
from shared_kernel.topics import ALL, ORDERS, PAYMENT_INBOX, dlq_name
from tests.integration.shop import CALL_S, Shop, retried
from tests.waiting import wait_for_async

#: Seconds. The tests start many short processes, each of which loads Python and its libraries.
pytestmark = pytest.mark.timeout(400)

SERVICES = ("orders", "groups", "payments")
GROUPS = sorted({reader for topic in ALL for reader in topic.readers} - topics.OF_INVENTORY)
#: Longer than the broker waits for a static member that has left.
EMPTY_S = 40.0
SOON_S = 60.0
PARTITIONS = 2
DEAD = dlq_name(ORDERS, "groups")


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[str]:
    """A separate broker with Kafka's default retention of committed offsets."""
    broker = Broker(keep_offsets=False)
    broker.start(tmp_path / "kafka")
    yield broker.bootstrap
    broker.release()


@pytest.fixture
def shop(kafka: str, tmp_path: Path) -> Iterator[Shop]:
    with Stack(tmp_path / "run", kafka=kafka) as stack:
        running = RunningStack(stack)
        yield Shop(running)
        running.close()


def ops(kafka: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "ops.main", *arguments, "--kafka", kafka)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


async def forget_offsets(kafka: str, groups: Sequence[str] = GROUPS) -> None:
    """Deletes groups and their offsets, once they have no member."""
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        for group in groups:

            async def gone(group: str = group) -> bool:
                coordinator = await admin.find_coordinator(group)
                deleted = await admin._send_request_to_node(coordinator, DeleteGroupsRequest([group]))
                left = await admin.list_consumer_group_offsets(group)
                return [code for _, code in deleted.results] in ([0], [69]) and not left

            await wait_for_async(gone, seconds=EMPTY_S, every=0.5)
    finally:
        await admin.close()


async def committed(kafka: str, group: str) -> dict[TopicPartition, Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
        return {tp: one for tp, one in found.items() if one.offset >= 0}
    finally:
        await admin.close()


def start(stack: System) -> None:
    for name in SERVICES:
        stack.start_service(name)
    for name in SERVICES:
        stack.wait_serving(name, timeout=SOON_S)


def accepted(shop: Shop, campaign: str, group: str) -> pb.Order:
    """An order in the log that no reader has read."""
    request = shop.request(campaign, group, wait=pb.WAIT_ACCEPTED)
    order = retried(lambda: shop.orders.PlaceOrder(request, timeout=CALL_S)).order
    shop.placed.append((order.group.removeprefix("groups/"), order.name.rsplit("/", 1)[1]))
    return order


def clean(shop: Shop) -> None:
    """Nothing is in flight, nothing was lost or doubled, and the provider's statement matches the ledger."""
    asyncio.run(wait_quiet(shop.stack.kafka, deadline_s=100))
    provider = shop.stack.endpoints["provider"]
    report = asyncio.run(audit(shop.stack.kafka, provider, settled=True, acknowledged=shop.placed))
    assert report.clean, report.json()
    assert report.books_equal
    assert report.dead_letters == 0


def test_services_resume_where_they_stopped_and_nothing_is_lost_or_doubled(shop: Shop) -> None:
    stack, kafka = shop.stack.stack, shop.stack.kafka
    campaign = shop.campaign(capacity=3, tiers=[(3, 6_900)], window_s=600.0, hold_s=300.0)
    settled = shop.full_group(campaign, 3)
    shop.wait_all(settled, "SETTLED")
    half = shop.place(campaign)
    shop.wait(half, "CONFIRMED")
    # Unread: a decision by payments, an order by groups.
    stack.stop_service("payments")
    seated = shop.place(campaign, half.group)
    stack.stop_service("groups")
    last = accepted(shop, campaign, half.group)
    stack.stop_service("orders")
    asyncio.run(forget_offsets(kafka))

    checked = ops(kafka, "topics", "check")
    assert checked.returncode == 1
    assert "deletes the committed offsets of a group that is empty for 7 days" in checked.stderr
    assert "offsets.retention.minutes=129600" in checked.stderr

    start(stack)
    for name in ("groups", "payments"):
        assert "the broker has forgotten the committed offset" in stack.log(name)
    shop.wait_all([half, seated, last], "SETTLED", seconds=SOON_S)

    # The same by the operator's command, with a dry run first.
    for name in SERVICES:
        stack.stop_service(name)
    asyncio.run(forget_offsets(kafka))
    seen = ops(kafka, "offsets", "recover", "--dry-run")
    assert seen.returncode == 0, seen.stderr
    assert "0 committed" in seen.stdout
    assert "NOT PROVEN" not in seen.stdout
    assert asyncio.run(committed(kafka, topics.PAYMENTS_EFFECTS)) == {}
    recovered = ops(kafka, "offsets", "recover")
    assert recovered.returncode == 0, recovered.stderr
    for group in (topics.GROUPS_SEQUENCER, topics.PAYMENTS_DECIDER, topics.PAYMENTS_EFFECTS):
        for one in asyncio.run(committed(kafka, group)).values():
            assert json.loads(one.metadata)["proven"] is True
    entries = asyncio.run(log_registry.read(kafka)).records
    recorded = {one.offsets_recovered.group for key, one in entries.items() if key.startswith("recovered/")}
    assert recorded == set(GROUPS) - {topics.PAYMENTS_LEDGER, topics.ORDERS_PROJECTION}
    assert "every group has its offsets" in ops(kafka, "offsets", "recover").stdout
    start(stack)
    shop.wait(shop.place(campaign, solo=True), "SETTLED")
    clean(shop)


async def made(kafka: str) -> None:
    await create_log(kafka, partitions=PARTITIONS, default=PARTITIONS, replication=1, who="test")


async def write(kafka: str, topic: str, values: Sequence[bytes], key: str, headers: Any = ()) -> int:
    """Appends records of a key. Returns the last offset."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        partition = partition_of(key, PARTITIONS)
        for value in values:
            done = await producer.send_and_wait(
                topic, value, key=key.encode(), partition=partition, headers=list(headers)
            )
        return int(done.offset)
    finally:
        await producer.stop()


async def values(kafka: str, topic: str) -> list[bytes]:
    """All values of a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        left = sum((await consumer.end_offsets(tps)).values())
        found: list[bytes] = []
        async with asyncio.timeout(30):
            while len(found) < left:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [record.value for record in records]
        return found
    finally:
        await consumer.stop()


async def write_dead_letters(
    kafka: str, letters: Sequence[bytes], key: str, offsets: Sequence[int] | None = None
) -> None:
    """Writes dead letters of existing records, as a service does."""
    last = await write(kafka, ORDERS.name, letters, key)
    for letter, offset in zip(letters, offsets or range(last + 1 - len(letters), last + 1), strict=True):
        headers = [(ORIGIN_TOPIC, ORDERS.name.encode()), (ORIGIN_OFFSET, str(offset).encode())]
        await write(kafka, DEAD, [letter], key, headers)


class Broken(Exception):
    """The error that interrupts the redrive."""


async def test_an_interrupted_redrive_redrives_no_dead_letter_twice(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(kafka)
    letters = [b"letter %d" % number for number in range(10)]
    for key in ("a", "b", "c"):
        await write_dead_letters(kafka, letters, key)
    wanted = sorted(letters * 3)

    # Interrupted after some records of a batch, before the entry in the registry.
    send, sent = AIOKafkaProducer.send_and_wait, 0

    async def breaking(self: AIOKafkaProducer, topic: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal sent
        sent += topic == ORDERS.name
        if topic == ORDERS.name and sent == 8:
            raise Broken
        return await send(self, topic, *args, **kwargs)

    monkeypatch.setattr(dlq, "REDRIVE_BATCH", 5)
    monkeypatch.setattr(AIOKafkaProducer, "send_and_wait", breaking)
    with pytest.raises(Broken):
        await dlq._redrive(kafka, [DEAD], again=False)
    monkeypatch.setattr(AIOKafkaProducer, "send_and_wait", send)
    assert len(await values(kafka, ORDERS.name)) == len(wanted) + 7
    # A writer of the topic can claim that all was redriven. A claim without the record itself is ignored.
    for key in ("a", "b", "c"):
        lie = [(dlq.REDRIVEN_FROM, f"{DEAD}/{partition_of(key, PARTITIONS)}/{number}".encode()) for number in (9, 99)]
        await write(kafka, ORDERS.name, [b"lie"], key, lie)
        await write(kafka, ORDERS.name, [b"lie"], key, [(dlq.REDRIVEN_FROM, b"no/number/x")])
    assert await dlq._redrive(kafka, [DEAD], again=False) == (len(wanted) - 7, [])
    assert sorted(await values(kafka, ORDERS.name)) == sorted([*wanted * 2, *[b"lie"] * 6])

    # Interrupted after all records of a batch, before the entry in the registry.
    await write_dead_letters(kafka, [b"one more"], "a")
    append, appended = Writer.append, 0

    async def losing(self: Writer, *args: Any) -> None:
        nonlocal appended
        appended += 1
        if appended == 2:
            raise Broken
        await append(self, *args)

    monkeypatch.setattr(Writer, "append", losing)
    with pytest.raises(Broken):
        await dlq._redrive(kafka, [DEAD], again=False)
    monkeypatch.setattr(Writer, "append", append)
    for _ in range(2):
        assert await dlq._redrive(kafka, [DEAD], again=False) == (0, [])
    assert (await values(kafka, ORDERS.name)).count(b"one more") == 2
    assert await dlq._redrive(kafka, [DEAD], again=True) == (len(wanted) + 1, [])


async def test_a_forged_claim_that_all_was_redriven_is_reported(kafka: str) -> None:
    await made(kafka)
    await write_dead_letters(kafka, [b"letter"], "a")
    here = partition_of("a", PARTITIONS)
    async with Writer(kafka, "mallory", PARTITIONS) as writer:
        entry = Redriven(topic=DEAD, partition=here, up_to=1, sending_to=1)
        await writer.append(log_registry.redriven_key(DEAD, here), RegistryRecord(redriven=entry))
        redrive = await asyncio.to_thread(ops, kafka, "dlq", "redrive", DEAD)
        assert "all before 1 was redriven before, by mallory" in redrive.stderr
        entry = Redriven(topic=DEAD, partition=here, up_to=10**9, sending_to=10**9)
        await writer.append(log_registry.redriven_key(DEAD, here), RegistryRecord(redriven=entry))
    redrive = await asyncio.to_thread(ops, kafka, "dlq", "redrive", DEAD)
    assert redrive.returncode == 1
    assert "no command of ours wrote that" in redrive.stderr
    assert await dlq._redrive(kafka, [DEAD], again=True) == (1, [])


async def test_a_forged_dead_letter_adds_nothing_to_a_topic(kafka: str) -> None:
    await made(kafka)
    await write_dead_letters(kafka, [b"real"], "a")
    here = partition_of("a", PARTITIONS)
    # Forged dead letters: another topic, other bytes, no offset, an impossible offset.
    forged: list[tuple[bytes, list[tuple[str, bytes]]]] = [
        (b"refund", [(ORIGIN_TOPIC, PAYMENT_INBOX.name.encode()), (ORIGIN_OFFSET, b"0")]),
        (b"refund", [(ORIGIN_TOPIC, ORDERS.name.encode()), (ORIGIN_OFFSET, b"0")]),
        (b"refund", [(ORIGIN_TOPIC, ORDERS.name.encode())]),
        (b"refund", [(ORIGIN_OFFSET, b"999999999999999999999")]),
        (b"refund", [(ORIGIN_OFFSET, b"17")]),
    ]
    for value, headers in forged:
        await write(kafka, DEAD, [value], "a", headers)
    count, doubts = await dlq._redrive(kafka, [DEAD], again=False)
    assert count == 1
    assert len(doubts) == len(forged)
    assert "there is another record at" in doubts[0]
    assert await values(kafka, ORDERS.name) == [b"real", b"real"]
    assert await values(kafka, PAYMENT_INBOX.name) == []
    shown = await asyncio.to_thread(ops, kafka, "dlq", "show", DEAD, "--json")
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [row["proven"] for row in rows] == [True] + [False] * len(forged)
    assert {(row["origin"]["topic"], row["origin"]["partition"]) for row in rows} == {(ORDERS.name, here)}
    redrive = await asyncio.to_thread(ops, kafka, "dlq", "redrive", DEAD, "--again")
    assert redrive.returncode == 1
    assert "5 dead letters were not redriven" in redrive.stderr


async def test_an_undecodable_record_is_skipped_only_by_a_recorded_skip(kafka: str) -> None:
    await made(kafka)
    key = "5d7c9f3e-0000-4000-8000-000000000001"
    partition = partition_of(key, PARTITIONS)
    good = PaymentInput(tick=Tick(due_ms=1)).SerializeToString()
    bad = b"\xff\x1b[2Jforeign"
    offset = await write(kafka, PAYMENT_INBOX.name, [good, bad, good], key) - 1
    place = (PAYMENT_INBOX.name, str(partition), str(offset), "--reason", "a test")

    async def run_ops(*arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(ops, kafka, *arguments)

    assert (await run_ops("audit", "--without-provider")).returncode == 1
    replayed = await run_ops("replay")
    assert '"stopped": 1' in replayed.stdout, replayed.stderr
    shown = await run_ops("skip", *place, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "bytes are not a valid PaymentInput" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert (await log_registry.read(kafka)).skipped == set()
    refused = await run_ops("skip", PAYMENT_INBOX.name, str(partition), str(offset - 1), "--reason", "no")
    assert refused.returncode == 1
    assert "this build can process the record" in refused.stderr
    assert (await run_ops("skip", PAYMENT_INBOX.name, str(partition), "99", "--reason", "no")).returncode == 2
    assert (await run_ops("skip", *place)).returncode == 0
    ((topic, where, at, _),) = (await log_registry.read(kafka)).skipped
    assert (topic, where, at) == (PAYMENT_INBOX.name, partition, offset)
    assert (await run_ops("audit", "--without-provider")).returncode == 0
    replayed = await run_ops("replay")
    assert '"stopped": 0' in replayed.stdout
    assert replayed.returncode == 0


async def test_an_unproven_start_is_committed_only_on_an_operators_demand(kafka: str) -> None:
    from aiokafka.admin import RecordsToDelete

    await made(kafka)
    await write(kafka, ORDERS.name, [b"x"] * 5, "a")
    tp = TopicPartition(ORDERS.name, partition_of("a", PARTITIONS))
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(before_offset=3)})
    finally:
        await admin.close()
    await forget_offsets(kafka)
    recover = ("offsets", "recover", "--group", topics.GROUPS_SEQUENCER)
    refused = await asyncio.to_thread(ops, kafka, *recover)
    assert refused.returncode == 1
    assert "NOT PROVEN" in refused.stdout
    assert "--unproven" in refused.stderr
    assert tp not in await committed(kafka, topics.GROUPS_SEQUENCER)
    recovered = await asyncio.to_thread(ops, kafka, *recover, "--unproven")
    assert recovered.returncode == 0, recovered.stderr
    found = (await committed(kafka, topics.GROUPS_SEQUENCER))[tp]
    assert found.offset == 3
    assert json.loads(found.metadata)["proven"] is False
    rows = [
        row
        for one in (await log_registry.read(kafka)).records.values()
        for row in one.offsets_recovered.offsets
        if row.topic == ORDERS.name and not row.proven
    ]
    assert [(row.partition, row.offset) for row in rows] == [(tp.partition, 3)]
