"""One partition too many, in one topic or in all: everything refuses, names the declared number, and changes nothing.

A service with more partitions than its log was written with would look for half of its groups in other partitions.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from groupbuy.groups.v1.decisions_pb2 import GroupDecision

from devstack.kafka.broker import Broker
from eventlog.core.errors import TopicsDiffer
from eventlog.core.partitioner import partition_of
from eventlog.records.topic_spec import TopicSpec
from ops.broker.copy import rebuild as rebuild_module
from ops.broker.copy.rebuild import Rebuild, rebuild
from ops.broker.log_creation import create_log
from ops.errors import OpsError
from shared_kernel import log_registry
from shared_kernel.topics import ALL, GROUP_LOG, ORDERS, REGISTRY

#: Seconds. The tests start many short processes, each of which loads Python and its libraries.
pytestmark = pytest.mark.timeout(400)

PARTITIONS = 2
KEYS = [f"group-{number}" for number in range(40)]
#: Less than any time-out of a client.
AT_ONCE_S = 15.0


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[str]:
    """A separate broker, since its topics have the product's names."""
    broker = Broker()
    broker.start(tmp_path / "kafka")
    yield broker.bootstrap
    broker.release()


def ops(kafka: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of the command line."""
    command = (sys.executable, "-m", "ops.main", *arguments, "--kafka", kafka)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def create(kafka: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return ops(kafka, "topics", "create", "--replication", "1", *arguments)


async def made(kafka: str) -> None:
    await create_log(kafka, partitions=PARTITIONS, default=64, replication=1, who="test")


async def add_partition(kafka: str, topics: Sequence[TopicSpec]) -> None:
    """The effect of `kafka-topics.sh --alter --partitions 3`."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_partitions({topic.name: NewPartitions(PARTITIONS + 1) for topic in topics})
    finally:
        await admin.close()


async def write_keys(kafka: str, topic: TopicSpec, keys: Sequence[str], partitions: int = PARTITIONS) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        for key in keys:
            await producer.send_and_wait(topic.name, b"x", key=key.encode(), partition=partition_of(key, partitions))
    finally:
        await producer.stop()


async def write_decision(kafka: str, group: str, partition: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        decision = GroupDecision(group=group, version=1).SerializeToString()
        await producer.send_and_wait(GROUP_LOG.name, decision, key=group.encode(), partition=partition)
    finally:
        await producer.stop()


async def written(kafka: str) -> int:
    """Records of the registry."""
    return len((await log_registry.read(kafka)).records)


async def test_a_topic_with_one_partition_more_is_named_and_nothing_is_changed(kafka: str) -> None:
    await made(kafka)
    await add_partition(kafka, [ORDERS])
    message = "orders.order.v1 has 3 partitions: 2 were declared. Kafka can't remove partitions."
    for arguments in ((), ("--partitions", "2")):
        began = time.monotonic()
        refused = await asyncio.to_thread(create, kafka, *arguments)
        assert time.monotonic() - began < AT_ONCE_S
        assert refused.returncode == 1
        assert message in refused.stderr
        assert "`topics rebuild`" in refused.stderr
    for command in (("topics", "check"), ("audit", "--without-provider")):
        refused = await asyncio.to_thread(ops, kafka, *command)
        assert refused.returncode == 1
        assert message in refused.stderr
    assert await written(kafka) == 1


async def test_one_partition_more_in_every_topic_is_refused_too(kafka: str) -> None:
    await made(kafka)
    await add_partition(kafka, ALL)
    for arguments in ((), ("--partitions", "3")):
        refused = await asyncio.to_thread(create, kafka, *arguments)
        assert refused.returncode == 1
        assert "2 " in refused.stderr
        assert "declared" in refused.stderr
    with pytest.raises(TopicsDiffer, match=r"registry\.v1 has 3 partitions.*2 were declared"):
        await log_registry.check(kafka)
    refused = await asyncio.to_thread(ops, kafka, "audit", "--without-provider")
    assert refused.returncode == 1
    assert "orders.order.v1 has 3 partitions" in refused.stderr


def test_a_service_does_not_start_on_an_added_partition_and_logs_the_reason(kafka: str, tmp_path: Path) -> None:
    asyncio.run(made(kafka))
    asyncio.run(add_partition(kafka, ALL))
    variables = {"KAFKA": kafka, "LISTEN": "127.0.0.1:0", "STATE_DIR": str(tmp_path / "state"), "INSTANCE": "groups-0"}
    variables |= {"INSECURE": "true", "LINK_KEYS": f"local:{'0' * 64}"}
    environment = {**os.environ, **{f"GROUPBUY_GROUPS_{name}": value for name, value in variables.items()}}
    command = (sys.executable, "-m", "services.groups")
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 70
    assert "orders.order.v1 has 3 partitions" in ended.stdout + ended.stderr
    assert "2 were declared" in ended.stdout + ended.stderr


async def before_the_registry(kafka: str) -> None:
    """An installation by an older version: all topics but the registry."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        topics = [topic for topic in ALL if topic is not REGISTRY]
        await admin.create_topics([NewTopic(one.name, PARTITIONS, 1, topic_configs=one.config()) for one in topics])
    finally:
        await admin.close()


async def test_an_older_installation_gets_the_partition_count_of_its_keys(kafka: str) -> None:
    await before_the_registry(kafka)
    await write_keys(kafka, GROUP_LOG, KEYS)
    # Without a declared number, the topics' own is used.
    assert (await asyncio.to_thread(create, kafka)).returncode == 0
    found = (await log_registry.read(kafka)).declared
    assert found is not None
    assert (found.partitions, found.adopted) == (PARTITIONS, True)
    assert found.cluster_id
    checked = await asyncio.to_thread(ops, kafka, "topics", "check")
    assert checked.returncode == 0, checked.stderr
    assert "topics of 2 partitions are correct" in checked.stdout


async def test_a_greater_partition_count_in_all_topics_of_an_older_installation_is_not_trusted(kafka: str) -> None:
    await before_the_registry(kafka)
    await write_keys(kafka, GROUP_LOG, KEYS)
    altered = [topic for topic in ALL if topic is not REGISTRY]
    await add_partition(kafka, altered)
    # Newer records are in partitions of 3, older ones in partitions of 2.
    await write_keys(kafka, GROUP_LOG, [f"later-{number}" for number in range(10)], PARTITIONS + 1)
    refused = await asyncio.to_thread(create, kafka, "--partitions", "3")
    assert refused.returncode == 1
    assert "is not the one that keys were placed by" in refused.stderr
    assert "of groups.group.v1 has records in partition" in refused.stderr
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await consumer.start()
    try:
        assert REGISTRY.name not in await consumer.topics()
        ends = await consumer.end_offsets([TopicPartition(GROUP_LOG.name, partition) for partition in range(3)])
        assert sum(ends.values()) == len(KEYS) + 10
    finally:
        await consumer.stop()


async def test_a_log_with_keys_in_other_partitions_fails_the_audit(kafka: str) -> None:
    await made(kafka)
    for group in KEYS[:4]:
        await write_decision(kafka, group, 1 - partition_of(group, PARTITIONS))
    audited = await asyncio.to_thread(ops, kafka, "audit", "--without-provider")
    assert audited.returncode == 1
    for group in KEYS[:4]:
        assert f"invariant 17 group {group}" in audited.stdout


async def contents(kafka: str, topic: TopicSpec) -> list[list[Any]]:
    """The content of a topic by partition: its records, and its begin and end offsets."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await consumer.start()
    try:
        tps = [TopicPartition(topic.name, partition) for partition in range(PARTITIONS)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        found: dict[TopicPartition, list[Any]] = {tp: [begins[tp], ends[tp]] for tp in tps}
        left = sum(ends[tp] - begins[tp] for tp in tps)
        async with asyncio.timeout(30):
            while left:
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    left -= len(records)
                    found[tp] += [(one.offset, one.timestamp, one.key, one.value, one.headers) for one in records]
        return list(found.values())
    finally:
        await consumer.stop()


async def trim(kafka: str, topic: TopicSpec, before: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        tps = [TopicPartition(topic.name, partition) for partition in range(PARTITIONS)]
        await admin.delete_records({tp: RecordsToDelete(before_offset=before) for tp in tps})
    finally:
        await admin.close()


async def commit(kafka: str, group: str, offsets: dict[TopicPartition, int]) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(list(offsets))
        await consumer.commit(offsets)
    finally:
        await consumer.stop()


class Broken(Exception):
    """The error that interrupts the rebuild."""


async def test_a_rebuilt_topic_has_its_old_content_also_after_an_interruption_anywhere(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(kafka)
    await write_keys(kafka, ORDERS, KEYS)
    await trim(kafka, ORDERS, 3)
    (reader, *_) = ORDERS.readers
    offsets = {TopicPartition(ORDERS.name, partition): 5 for partition in range(PARTITIONS)}
    await commit(kafka, reader, offsets)
    before = await contents(kafka, ORDERS)
    await add_partition(kafka, [ORDERS, REGISTRY])
    entries = await log_registry.read(kafka)
    lines: list[str] = []
    await rebuild(kafka, [ORDERS], lines.append, dry_run=True)
    assert lines == ["orders.order.v1: 3 partitions would become 2"]
    with pytest.raises(TopicsDiffer):
        await log_registry.check(kafka)

    steps = [(Rebuild, step) for step in ("_make", "_copy", "_compare", "_carry_offsets", "_delete")]
    for where, step in (*steps, (rebuild_module, "change_settings")):
        real = getattr(where, step)

        async def breaking(*args: Any, real: Any = real) -> None:
            await real(*args)
            raise Broken

        monkeypatch.setattr(where, step, breaking)
        with pytest.raises(Broken):
            await rebuild(kafka, [ORDERS], lines.append, dry_run=False)
        monkeypatch.setattr(where, step, real)
    await rebuild(kafka, [ORDERS], lines.append, dry_run=False)
    assert await contents(kafka, ORDERS) == before
    rebuilt = await asyncio.to_thread(ops, kafka, "topics", "rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "groupbuy.registry.v1 is rebuilt with 2 partitions" in rebuilt.stdout
    assert (await log_registry.read(kafka)).records == entries.records
    assert await log_registry.check(kafka) == PARTITIONS
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        committed = await admin.list_consumer_group_offsets(reader)
        assert {tp: one.offset for tp, one in committed.items() if tp.topic == ORDERS.name} == offsets
        assert not [name for name in await admin.list_topics() if name.endswith(".rebuild")]
    finally:
        await admin.close()


async def test_records_in_an_added_partition_are_not_thrown_away(kafka: str) -> None:
    await made(kafka)
    await add_partition(kafka, [ORDERS])
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        await producer.send_and_wait(ORDERS.name, b"x", key=b"k", partition=PARTITIONS)
    finally:
        await producer.stop()
    with pytest.raises(OpsError, match="added partition 2 has records"):
        await rebuild(kafka, [ORDERS], print, dry_run=False)
