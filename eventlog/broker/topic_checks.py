"""Checks of a broker's topics and settings against the specifications. Read-only: nothing here changes the broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from eventlog.broker.partition_reader import PartitionReader
from eventlog.broker.security import Kafka, client
from eventlog.core.errors import TopicsDiffer
from eventlog.core.partitioner import partition_of
from eventlog.records.topic_spec import DAY_MS, FOR_EVER, TopicSpec

#: How to repair a topic whose number of partitions is not the declared one.
HOW_TO_REPAIR = (
    "Kafka can't remove partitions. Don't add partitions to the other topics: keys would then map to partitions that "
    "don't hold their records. Stop the services and run `topics rebuild`, which creates the topic anew"
)
#: Distinct keys of one partition that are examined to tell which number of partitions placed them.
SAMPLED_KEYS = 50


class OffsetsRetention(NamedTuple):
    """How long the brokers keep the committed offsets of an empty group, and how long they should."""

    shortest_ms: int
    needed_ms: int

    @property
    def problem(self) -> str:
        """A description of the problem and of its correction; empty if there is none."""
        if self.shortest_ms >= self.needed_ms:
            return ""
        found, needed = self.shortest_ms / DAY_MS, self.needed_ms // DAY_MS
        return (
            f"the broker deletes the committed offsets of a group that is empty for {found:g} days, but keeps records "
            f"that the group must read for {needed}: set offsets.retention.minutes={self.needed_ms // 60_000} or more "
            "on every broker"
        )


class KeyPlacement(NamedTuple):
    """Result of a search for keys in wrong partitions."""

    #: Records that were examined.
    records: int
    #: A sentence about the first key in a wrong partition; empty if there is none.
    misplaced: str


async def check_topics(kafka: Kafka, topics: Sequence[TopicSpec], *, partitions: int | None = None) -> int:
    """Compares the broker's topics with their specifications. Returns the number of partitions of each topic.

    `partitions` is the declared number, which every topic must have; it is checked before the settings. Raises
    TopicsDiffer with each difference and how to correct it.
    """
    admin = AIOKafkaAdminClient(**client(kafka))
    await admin.start()
    try:
        described = {row["topic"]: row for row in await admin.describe_topics([topic.name for topic in topics])}
        missing = [t.name for t in topics if t.name not in described or described[t.name]["error_code"]]
        if missing:
            raise TopicsDiffer(f"missing topics {', '.join(missing)}: run `topics create`")
        found = {name: len(row["partitions"]) for name, row in described.items()}
        count = common_partition_count({topic.name: found[topic.name] for topic in topics}, partitions)
        differences = []
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics]
        for response in await admin.describe_configs(resources):
            for _code, _message, _type, name, entries in response.resources:
                values = {entry[0]: entry[1] for entry in entries}
                spec = next(topic for topic in topics if topic.name == name)
                for setting, value in spec.config().items():
                    if values.get(setting) != value:
                        differences.append(f"{name}: {setting} is {values.get(setting)}, should be {value}")
        if differences:
            raise TopicsDiffer("; ".join(differences))
        return count
    finally:
        await admin.close()


async def partition_counts(kafka: Kafka, topics: Sequence[TopicSpec]) -> dict[str, int]:
    """Number of partitions of each of the topics that exists, by name."""
    admin = AIOKafkaAdminClient(**client(kafka))
    await admin.start()
    try:
        # List first: a broker may be configured to create a topic when a client describes it.
        existing = set(await admin.list_topics())
        return await described_partition_counts(admin, [topic.name for topic in topics if topic.name in existing])
    finally:
        await admin.close()


async def described_partition_counts(admin: Any, names: Sequence[str]) -> dict[str, int]:
    """Number of partitions by topic, for topics that exist."""
    if not names:
        return {}
    rows = await admin.describe_topics(list(names))
    return {row["topic"]: len(row["partitions"]) for row in rows if not row["error_code"]}


def common_partition_count(counts: Mapping[str, int], declared: int | None) -> int:
    """The number of partitions that all topics have. Raises TopicsDiffer with the topics that have another number.

    If `declared` is None and the topics differ, none of their numbers is taken for the right one.
    """
    if declared is None:
        if len(set(counts.values())) == 1:
            return next(iter(counts.values()))
        listed = "; ".join(f"{name} has {_partitions(count)}" for name, count in counts.items())
        raise TopicsDiffer(f"topics differ in their number of partitions, and none was declared: {listed}")
    wrong = {name: count for name, count in counts.items() if count != declared}
    if not wrong:
        return declared
    listed = "; ".join(f"{name} has {_partitions(count)}" for name, count in wrong.items())
    were = "was" if declared == 1 else "were"
    raise TopicsDiffer(f"{listed}: {declared} {were} declared. {HOW_TO_REPAIR}")


def _partitions(count: int) -> str:
    return f"{count} partition{'' if count == 1 else 's'}"


async def offsets_retention(kafka: Kafka, topics: Sequence[TopicSpec]) -> OffsetsRetention:
    """The brokers' `offsets.retention.minutes`, and the longest retention of a topic that a consumer group reads.

    If offsets expire before records, a reader that was away can't tell which of the remaining records it has read.
    Topics that are kept for ever need no such limit: their readers find their position in the topics.
    """
    admin = AIOKafkaAdminClient(**client(kafka))
    await admin.start()
    try:
        brokers = [str(row["node_id"]) for row in (await admin.describe_cluster())["brokers"]]
        resources = [ConfigResource(ConfigResourceType.BROKER, name) for name in brokers]
        found_ms = []
        for response in await admin.describe_configs(resources):
            for code, message, _type, name, entries in response.resources:
                if code:
                    raise TopicsDiffer(f"can't read the settings of broker {name}: {for_code(code).__name__} {message}")
                found_ms += [int(entry[1]) * 60_000 for entry in entries if entry[0] == "offsets.retention.minutes"]
    finally:
        await admin.close()
    needed_ms = max((topic.retention_ms for topic in topics if topic.readers), default=0)
    return OffsetsRetention(min(found_ms), needed_ms)


async def find_misplaced_keys(
    kafka: Kafka, topics: Sequence[TopicSpec], partitions: int, *, keys: int = SAMPLED_KEYS
) -> KeyPlacement:
    """Looks for keys outside the partition that `partition_of(key, partitions)` gives.

    Reads each partition up to its end or its first `keys` distinct keys. That is enough, because an added partition
    moves all keys except one in `partitions`. Topics that are kept for ever are read first. The others are read only
    if those are empty: they hold only recent records, and some of them records of any client.
    """
    for_ever = [topic for topic in topics if topic.retention_ms == FOR_EVER and topic.readers]
    others = [topic for topic in topics if topic not in for_ever and topic.message is not None]
    records = 0
    for some in (for_ever, others):
        for topic in some:
            found = await _find_misplaced_keys(kafka, topic.name, partitions, keys)
            records += found.records
            if found.misplaced:
                return found
        if records:
            break
    return KeyPlacement(records, "")


async def _find_misplaced_keys(kafka: Kafka, topic: str, partitions: int, keys: int) -> KeyPlacement:
    count = 0
    async with PartitionReader.of_topic(kafka, topic, partitions) as reader:
        for tp in reader.tps:
            known: set[str] = set()
            async with aclosing(reader.records(tp, reader.begins[tp], reader.ends[tp])) as records:
                async for record in records:
                    count += 1
                    key = (record.key or b"").decode(errors="replace")
                    right = partition_of(key, partitions)
                    if right != tp.partition:
                        place = f"key {key} of {topic} has records in partition {tp.partition}"
                        return KeyPlacement(count, f"{place}, but maps to partition {right} of {partitions}")
                    known.add(key)
                    if len(known) >= keys:
                        break
    return KeyPlacement(count, "")
