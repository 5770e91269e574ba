"""An undecodable record on a real broker quarantines its partition alone, until a skip of the record is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256 as digest_of
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from eventlog.admin.topic_creation import create_topics
from eventlog.core.inbox_mapper import RecordMapper
from eventlog.core.partitioner import partition_of
from eventlog.processors.base import Connection
from eventlog.processors.sequencer import Sequencer
from eventlog.records.topic_spec import FOR_EVER, TopicSpec
from tests.waiting import wait_for_async

PATIENCE_S = 30.0
#: One key for each partition.
KEYS = [next(f"k{n}".encode() for n in range(99) if partition_of(f"k{n}", 2) == one) for one in range(2)]


class Copying(RecordMapper):
    """Copies values, and can't decode one with a question mark."""

    def for_partition(self, topic: str, partition: int) -> RecordMapper:
        return self

    def map_record(self, record: Any) -> bytes:
        if record.value == b"?":
            raise ValueError("planted")
        return bytes(record.value)


class Recorded:
    """The recorded skips."""

    def __init__(self) -> None:
        self.places: set[tuple[str, int, int, str]] = set()

    async def recorded(self, topic: str, partition: int, offset: int, sha256: str) -> bool:
        return (topic, partition, offset, sha256) in self.places

    def is_skipped(self, topic: str, partition: int, record: Any) -> bool:
        return (topic, partition, record.offset, digest_of(record.value or b"").hexdigest()) in self.places


class World:
    """Facts in two partitions, their inbox, and one sequencer after the other."""

    def __init__(self, kafka: str, directory: Path) -> None:
        tag = uuid4().hex[:12]
        self.kafka, self.directory = kafka, directory
        self.group = f"groupbuy.chaos.{tag}"
        self.facts = TopicSpec(f"facts.{tag}", None, "key", "chaos", (self.group,), FOR_EVER)
        self.inbox = TopicSpec(f"inbox.{tag}", None, "key", "chaos", (), FOR_EVER)
        self.skips = Recorded()

    async def send(self, partition: int, *values: bytes) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka)
        await producer.start()
        try:
            for value in values:
                await producer.send_and_wait(self.facts.name, value, key=KEYS[partition], partition=partition)
        finally:
            await producer.stop()

    async def started(self) -> Sequencer:
        connection = Connection(self.kafka, "w-0", self.directory, skips=self.skips)
        sequencer = Sequencer(self.group, [self.facts], self.inbox, Copying(), connection)
        await sequencer.start(2)
        assert sequencer.ready
        return sequencer

    async def copied(self) -> Mapping[int, list[bytes]]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka)
        await consumer.start()
        try:
            tps = [TopicPartition(self.inbox.name, partition) for partition in range(2)]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            ends = await consumer.end_offsets(tps)
            found: dict[int, list[bytes]] = {0: [], 1: []}
            for tp in tps:
                while await consumer.position(tp) < ends[tp]:
                    found[tp.partition] += [one.value for one in await _some(consumer, tp)]
            return found
        finally:
            await consumer.stop()

    async def committed(self) -> dict[int, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(self.group)
            return {tp.partition: place.offset for tp, place in offsets.items() if tp.topic == self.facts.name}
        finally:
            await admin.close()

    async def wait_for(self, copied: Mapping[int, list[bytes]], committed: dict[int, int]) -> None:
        async def so() -> bool:
            return await self.copied() == copied and await self.committed() == committed

        await wait_for_async(so, seconds=PATIENCE_S)


async def _some(consumer: AIOKafkaConsumer, tp: TopicPartition) -> list[Any]:
    found: list[Any] = (await consumer.getmany(tp, timeout_ms=1000)).get(tp, [])
    return found


async def test_a_poison_record_quarantines_its_partition_alone_until_a_skip_is_recorded(
    kafka_broker: str, tmp_path: Path
) -> None:
    world = World(kafka_broker, tmp_path)
    await create_topics(kafka_broker, [world.facts, world.inbox], partitions=2, replication=1)
    await world.send(0, b"a", b"b")
    await world.send(1, b"x")
    first = await world.started()
    await world.wait_for({0: [b"a", b"b"], 1: [b"x"]}, {0: 2, 1: 1})
    await world.send(0, b"?")
    await world.send(0, b"c")
    await world.send(1, b"y")
    await world.wait_for({0: [b"a", b"b"], 1: [b"x", b"y"]}, {0: 2, 1: 2})
    assert {p: (one.topic, one.offset) for p, one in first.quarantined.items()} == {0: (world.facts.name, 2)}
    assert first.ready
    await first.stop()
    # After a restart the record is found again.
    second = await world.started()

    async def stands_still() -> bool:
        return set(second.quarantined) == {0}

    await wait_for_async(stands_still, seconds=PATIENCE_S)
    await world.send(1, b"z")
    await world.wait_for({0: [b"a", b"b"], 1: [b"x", b"y", b"z"]}, {0: 2, 1: 3})
    poisoned = second.quarantined[0]
    world.skips.places.add((poisoned.topic, 0, poisoned.offset, poisoned.sha256))
    await world.wait_for({0: [b"a", b"b", b"c"], 1: [b"x", b"y", b"z"]}, {0: 4, 1: 3})
    assert second.quarantined == {}
    await world.send(0, b"d")
    await world.wait_for({0: [b"a", b"b", b"c", b"d"], 1: [b"x", b"y", b"z"]}, {0: 5, 1: 3})
    await second.stop()
