"""What a topic is, how topics are made, and whether a broker's topics are what they should be.

One list of TopicSpec is the only place that knows a product's topics. A process never makes topics by itself: a
declared first start does (`create`). It also commits offset 0 for every reader of an empty partition.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code
from google.protobuf.message import Message

from eventlog.broker.partition_reader import Partitions
from eventlog.broker.security import Kafka, client
from eventlog.core.errors import TopicsDiffer

FOR_EVER = -1
DAY_MS = 24 * 60 * 60 * 1000
_WORD = struct.Struct("<I")
#: How long a broker may take to know of topics that it has made.
KNOWN_S = 10.0
#: What to do about a topic with another number of partitions than declared.
WAY_OUT = (
    "Kafka can't remove partitions. Add none to the other topics: keys would then map to partitions that don't hold "
    "their records. Way out: stop the services and run `groupbuy-ops topics rebuild`, which makes the topic anew"
)
#: Different keys of one partition that are looked at to tell by what number of partitions they were placed.
KEYS = 50


class OffsetsRetention(NamedTuple):
    """How long the brokers keep the committed offsets of an empty group, and how long they should."""

    shortest_ms: int
    least_ms: int

    @property
    def trouble(self) -> str:
        """What is wrong and what to do; empty if nothing is."""
        if self.shortest_ms >= self.least_ms:
            return ""
        found, least = self.shortest_ms / DAY_MS, self.least_ms // DAY_MS
        return (
            f"the broker forgets the committed offsets of a group that is empty for {found:g} days, and keeps records "
            f"that the group must read for {least}: set offsets.retention.minutes={self.least_ms // 60_000} or more on "
            "every broker"
        )


class Evidence(NamedTuple):
    """How many records were looked at, and of one in the wrong partition a sentence; empty: there is none."""

    records: int
    said: str


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


def origins_of_dead_letters(topics: Iterable[TopicSpec]) -> dict[str, TopicSpec]:
    """The source of every dead-letter topic among the topics, by its name. No record has a say in it."""
    listed = list(topics)
    names = {topic.name for topic in listed if topic.message is None}
    found = {dead_letter(topic, service_of(reader)).name: topic for topic in listed for reader in topic.readers}
    return {name: topic for name, topic in found.items() if name in names}


async def create(kafka: Kafka, topics: Sequence[TopicSpec], *, partitions: int, replication: int) -> list[str]:
    """Makes the topics that don't exist yet and commits offset 0 for their readers. Returns the names of the new ones.

    The number of partitions is fixed here for ever: keys map to partitions, another number means new topics.
    Raises TopicsDiffer when an existing topic is not what the registry says; it then has changed nothing.
    """
    admin = AIOKafkaAdminClient(**client(kafka))
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in existing]
        # First of all: to ask for partitions that are not there takes a client until its time-out.
        same_count(await _counts(admin, [topic.name for topic in topics if topic.name in existing]), partitions)
        made = [
            NewTopic(topic.name, partitions, replication, topic_configs=settings(topic, replication))
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


def settings(topic: TopicSpec, replication: int) -> dict[str, str]:
    """All that a topic is made with."""
    least = "2" if replication > 2 else "1"
    return {**topic.config(), "min.insync.replicas": least, "unclean.leader.election.enable": "false"}


async def counts(kafka: Kafka, topics: Sequence[TopicSpec]) -> dict[str, int]:
    """Partitions of those of the topics that exist, by name."""
    admin = AIOKafkaAdminClient(**client(kafka))
    await admin.start()
    try:
        # Never asked for by name before they are known to exist: a broker may be set to make what is asked for.
        existing = set(await admin.list_topics())
        return await _counts(admin, [topic.name for topic in topics if topic.name in existing])
    finally:
        await admin.close()


async def _counts(admin: Any, names: Sequence[str]) -> dict[str, int]:
    if not names:
        return {}
    rows = await admin.describe_topics(list(names))
    return {row["topic"]: len(row["partitions"]) for row in rows if not row["error_code"]}


def same_count(counts: Mapping[str, int], declared: int | None) -> int:
    """The number of partitions that all topics have. Raises TopicsDiffer, with the topics that are wrong.

    With `declared` None nobody has said which number is right, and none of them is taken for it.
    """
    if declared is None:
        if len(set(counts.values())) == 1:
            return next(iter(counts.values()))
        said = "; ".join(f"{name} has {_partitions(count)}" for name, count in counts.items())
        raise TopicsDiffer(f"topics differ in their number of partitions, and none was declared: {said}")
    wrong = {name: count for name, count in counts.items() if count != declared}
    if not wrong:
        return declared
    said = "; ".join(f"{name} has {_partitions(count)}" for name, count in wrong.items())
    were = "was" if declared == 1 else "were"
    raise TopicsDiffer(f"{said}: {declared} {were} declared. {WAY_OUT}")


def _partitions(count: int) -> str:
    return f"{count} partition{'' if count == 1 else 's'}"


async def offsets_retention(kafka: Kafka, topics: Sequence[TopicSpec]) -> OffsetsRetention:
    """The brokers' offsets.retention.minutes beside the longest time for which a topic with readers keeps a record.

    Where offsets go first, a reader that was away comes back to records that it can't tell read from unread. Topics
    that are kept for ever set no limit: their readers find their place in them.
    """
    admin = AIOKafkaAdminClient(**client(kafka))
    await admin.start()
    try:
        brokers = [str(row["node_id"]) for row in (await admin.describe_cluster())["brokers"]]
        resources = [ConfigResource(ConfigResourceType.BROKER, name) for name in brokers]
        shortest = []
        for response in await admin.describe_configs(resources):
            for code, message, _type, name, entries in response.resources:
                if code:
                    raise TopicsDiffer(f"broker {name} does not tell its settings: {for_code(code).__name__} {message}")
                shortest += [int(entry[1]) * 60_000 for entry in entries if entry[0] == "offsets.retention.minutes"]
    finally:
        await admin.close()
    least = max((topic.retention_ms for topic in topics if topic.readers), default=0)
    return OffsetsRetention(min(shortest), least)


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


async def misplaced(kafka: Kafka, topics: Sequence[TopicSpec], partitions: int, *, keys: int = KEYS) -> Evidence:
    """Looks whether keys stand in the partitions where `partitions` partitions put them.

    Looks at whole logs, or at the first `keys` different keys of each partition: an added partition changes the place
    of all keys but one in `partitions`. Logs that are kept for ever are asked first, since others hold what anybody
    may have written, and only the latest of it.
    """
    for_ever = [topic for topic in topics if topic.retention_ms == FOR_EVER and topic.readers]
    others = [topic for topic in topics if topic not in for_ever and topic.message is not None]
    seen = 0
    for some in (for_ever, others):
        for topic in some:
            found = await _misplaced(kafka, topic.name, partitions, keys)
            seen += found.records
            if found.said:
                return found
        if seen:
            break
    return Evidence(seen, "")


async def _misplaced(kafka: Kafka, topic: str, partitions: int, keys: int) -> Evidence:
    seen = 0
    tps = [TopicPartition(topic, partition) for partition in range(partitions)]
    async with Partitions(kafka, tps) as reading:
        for tp in tps:
            known: set[str] = set()
            async with aclosing(reading.records(tp, reading.begins[tp], reading.ends[tp])) as records:
                async for record in records:
                    seen += 1
                    key = (record.key or b"").decode(errors="replace")
                    right = partition_of(key, partitions)
                    if right != tp.partition:
                        said = f"key {key} of {topic} has records in partition {tp.partition}"
                        return Evidence(seen, f"{said}, and {partitions} partitions put it into {right}")
                    known.add(key)
                    if len(known) >= keys:
                        break
    return Evidence(seen, "")


async def check(kafka: Kafka, topics: Sequence[TopicSpec], *, partitions: int | None = None) -> int:
    """Compares the broker's topics with the registry, partition count first. Returns the number of partitions.

    `partitions` is the declared number, which every topic must have. Raises TopicsDiffer, naming each difference and
    what to do about it.
    """
    admin = AIOKafkaAdminClient(**client(kafka))
    await admin.start()
    try:
        described = {row["topic"]: row for row in await admin.describe_topics([topic.name for topic in topics])}
        missing = [t.name for t in topics if t.name not in described or described[t.name]["error_code"]]
        if missing:
            raise TopicsDiffer(f"missing topics {', '.join(missing)}: make them with `groupbuy-ops topics create`")
        found = {name: len(row["partitions"]) for name, row in described.items()}
        wanted = same_count({topic.name: found[topic.name] for topic in topics}, partitions)
        wrong = []
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
