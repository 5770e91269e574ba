"""What a topic is, how topics are made, and whether a broker's topics are what they should be.

One list of TopicSpec is the only place that knows a product's topics. A process never makes topics by itself: a
declared first start does (`create`). It also commits offset 0 for every reader: a missing offset later means loss.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code
from google.protobuf.message import Message

from eventlog.errors import TopicsDiffer
from eventlog.security import Kafka, client

FOR_EVER = -1
DAY_MS = 24 * 60 * 60 * 1000
_WORD = struct.Struct("<I")
#: How long a broker may take to know of topics that it has made.
KNOWN_S = 10.0


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic: its one message type, its key, its one writer, and the consumer groups that read it."""

    name: str
    message: type[Message] | None
    key: str
    writer: str
    readers: tuple[str, ...]
    retention_ms: int
    compacted: bool = False
    #: Services that read it whole, with no consumer group; the writer need not be named.
    followers: tuple[str, ...] = ()

    @property
    def type_name(self) -> str:
        """Full name of the message type; empty for raw bytes."""
        return str(self.message.DESCRIPTOR.full_name) if self.message else ""

    def config(self) -> dict[str, str]:
        """Settings of the topic at the broker. LogAppendTime: the broker's time is the only time."""
        return {
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": str(FOR_EVER if self.compacted else self.retention_ms),
            "retention.bytes": "-1",
        }


# Hashing is Python and costs more than most of what is asked with it; one call asks several times about one key.
@lru_cache(maxsize=32_768)
def partition_of(key: str, partitions: int) -> int:
    """Partition of a key, as every Kafka client's default partitioner has it (murmur2 over UTF-8)."""
    return (_murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """As aiokafka.partitioner.murmur2, which goes byte by byte and takes three times as long."""
    value = 0x9747B28C ^ len(data)
    for (word,) in _WORD.iter_unpack(data[: len(data) & ~3]):
        mixed = word * 0x5BD1E995 & 0xFFFFFFFF
        value = (value * 0x5BD1E995 ^ (mixed ^ mixed >> 24) * 0x5BD1E995) & 0xFFFFFFFF
    if rest := data[len(data) & ~3 :]:
        value = (value ^ int.from_bytes(rest, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return value ^ value >> 15


def dead_letter(topic: TopicSpec, service: str) -> TopicSpec:
    """Topic for what a service could not decode of another topic: the raw bytes, their origin in headers."""
    return TopicSpec(f"{topic.name}.{service}.dlq", None, topic.key, service, (), 30 * DAY_MS)


def service_of(reader: str) -> str:
    """`groupbuy.groups.sequencer` -> `groups`."""
    return reader.split(".")[-2]


def with_dead_letters(topics: Iterable[TopicSpec]) -> tuple[TopicSpec, ...]:
    """The topics, and the dead-letter topic of every service that reads what another service writes."""
    found: dict[str, TopicSpec] = {}
    for topic in topics:
        found[topic.name] = topic
        for reader in topic.readers:
            service = service_of(reader)
            spec = dead_letter(topic, service)
            if topic.writer != service or reader.endswith(".projection"):
                found.setdefault(spec.name, spec)
    return tuple(found.values())


async def create(kafka: Kafka, topics: Sequence[TopicSpec], *, partitions: int, replication: int) -> list[str]:
    """Makes the topics that don't exist yet and commits offset 0 for their readers. Returns the names of the new ones.

    The number of partitions is fixed here for ever: keys map to partitions, another number means new topics.
    Raises TopicsDiffer when an existing topic is not what the registry says.
    """
    admin = AIOKafkaAdminClient(**client(kafka))
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in existing]
        floor = {"min.insync.replicas": "2" if replication > 2 else "1", "unclean.leader.election.enable": "false"}
        made = [
            NewTopic(topic.name, partitions, replication, topic_configs={**topic.config(), **floor})
            for topic in missing
        ]
        if made:
            reply = await admin.create_topics(made)
            for name, code, *rest in reply.topic_errors:
                if code and for_code(code) is not TopicAlreadyExistsError:
                    raise TopicsDiffer(f"the broker did not create topic {name}: {for_code(code).__name__} {rest}")
            await until_known(admin, [topic.name for topic in missing])
    finally:
        await admin.close()
    # For all topics, since an earlier run may have been interrupted after it made some.
    await _commit_beginnings(kafka, topics, partitions)
    await check(kafka, topics, partitions=partitions)
    return [topic.name for topic in missing]


async def until_known(admin: Any, names: Sequence[str], *, within_s: float = KNOWN_S) -> None:
    """Waits until the broker lists topics that were just made: it may learn of them later than it said that they are.

    Where it does not in time, `check` says what is missing.
    """
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        rows = await admin.describe_topics(list(names))
        if {row["topic"] for row in rows if not row["error_code"]} >= set(names):
            return
        await asyncio.sleep(0.05)


async def _commit_beginnings(kafka: Kafka, topics: Sequence[TopicSpec], partitions: int) -> None:
    """Commits offset 0 for every reader of a partition that is still empty, where it has no offset yet."""
    by_reader: dict[str, list[TopicPartition]] = {}
    for topic in topics:
        for reader in topic.readers:
            by_reader.setdefault(reader, []).extend(TopicPartition(topic.name, p) for p in range(partitions))
    for reader, tps in by_reader.items():
        consumer = AIOKafkaConsumer(**client(kafka), group_id=reader, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            # An empty partition: nothing can have been lost. Anything else with no offset is not ours to excuse.
            unread = [tp for tp in tps if ends[tp] == 0 and await consumer.committed(tp) is None]
            if unread:
                await consumer.commit(dict.fromkeys(unread, 0))
        finally:
            await consumer.stop()


async def check(kafka: Kafka, topics: Sequence[TopicSpec], *, partitions: int | None = None) -> int:
    """Compares the broker's topics with the registry, partition count first. Returns the number of partitions.

    Raises TopicsDiffer, naming each difference and what to do about it.
    """
    admin = AIOKafkaAdminClient(**client(kafka))
    await admin.start()
    try:
        described = {row["topic"]: row for row in await admin.describe_topics([topic.name for topic in topics])}
        missing = [t.name for t in topics if t.name not in described or described[t.name]["error_code"]]
        if missing:
            raise TopicsDiffer(f"missing topics {', '.join(missing)}: make them with `groupbuy-ops topics create`")
        counts = {name: len(row["partitions"]) for name, row in described.items()}
        wanted = partitions if partitions is not None else counts[topics[0].name]
        wrong = [f"{name} has {count} partitions" for name, count in counts.items() if count != wanted]
        if wrong:
            raise TopicsDiffer(f"every topic must have {wanted} partitions: {'; '.join(wrong)}")
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics]
        for response in await admin.describe_configs(resources):
            for _code, _message, _type, name, entries in response.resources:
                values = {entry[0]: entry[1] for entry in entries}
                spec = next(topic for topic in topics if topic.name == name)
                for setting, value in spec.config().items():
                    if values.get(setting) != value:
                        wrong.append(f"{name}: {setting} is {values.get(setting)}, should be {value}")
        if wrong:
            raise TopicsDiffer("; ".join(wrong))
        return wanted
    finally:
        await admin.close()
