"""A publisher on a real broker: a failed batch ends its producer's writes to that partition, and no other writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import LeaderNotAvailableError, MessageSizeTooLargeError, OutOfOrderSequenceNumber

from eventlog.core.errors import BrokerUnavailable
from eventlog.core.partitioner import partition_of
from eventlog.producing.publisher import Publisher
from eventlog.producing.record_accumulator import Record
from tests.waiting import wait_for_async

PARTITIONS = 2
#: One key for each partition.
KEYS = {partition_of(f"k{number}", PARTITIONS): f"k{number}" for number in range(20)}
LARGE = bytes(4_000)
#: Time-out of the publisher, which includes the wait of a batch for a leader.
TIMEOUT_S = 1.0


@pytest.fixture
async def topic(kafka_broker: str) -> AsyncIterator[str]:
    """A topic that refuses large batches."""
    name = f"publisher-{uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs={"max.message.bytes": "1000"})])
        yield name
    finally:
        await admin.close()


@pytest.fixture
async def publisher(kafka_broker: str) -> AsyncIterator[Publisher]:
    made = Publisher(kafka_broker, client_id="test", timeout_s=TIMEOUT_S)
    await made.start(PARTITIONS)
    yield made
    await made.stop()


async def publish(publisher: Publisher, topic: str, partition: int, value: bytes = b"v") -> int:
    return (await publisher.publish(topic, Record(KEYS[partition], value, []), timeout_s=10)).offset


async def test_a_refused_batch_poisons_its_partition_for_a_producer_of_aiokafkas(kafka_broker: str, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka_broker, enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"v", partition=0)
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait(topic, LARGE, partition=0)
        for _ in range(3):
            with pytest.raises(OutOfOrderSequenceNumber):
                await producer.send_and_wait(topic, b"v", partition=0)
    finally:
        await producer.stop()


async def test_a_refused_batch_fails_alone(publisher: Publisher, topic: str) -> None:
    assert await publish(publisher, topic, 0) == 0
    for offset in (1, 2):
        with pytest.raises(ValueError, match="larger than"):
            await publish(publisher, topic, 0, LARGE)
        assert await publish(publisher, topic, 0) == offset
    assert await publish(publisher, topic, 1) == 0
    assert publisher.replaced == 2


async def test_a_partition_without_a_leader_for_longer_than_a_batch_waits_is_written_again_once_it_has_one(
    publisher: Publisher, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [await publish(publisher, topic, partition) for partition in (0, 1)] == [0, 0]
    leader = ClusterMetadata.leader_for_partition

    def none_of_the_first(self: Any, tp: TopicPartition) -> Any:
        return -1 if tp == (topic, 0) else leader(self, tp)

    with monkeypatch.context() as patch:
        patch.setattr(ClusterMetadata, "leader_for_partition", none_of_the_first)
        with pytest.raises(BrokerUnavailable, match=LeaderNotAvailableError.__name__):
            await publish(publisher, topic, 0)
        # The other partition is written meanwhile.
        assert await publish(publisher, topic, 1) == 1
    assert await publish(publisher, topic, 0) == 1

    async def ready() -> bool:
        return publisher.ready

    await wait_for_async(ready, seconds=10)
    assert publisher.replaced == 1
