"""The registry of the log, topic `groupbuy.registry.v1`: reads all entries and appends new ones.

It holds permanent facts about the log itself: the declared number of partitions, committed offsets that an operator
recovered, records that deciders skip, and the progress of redriven dead letters.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from aiokafka import AIOKafkaProducer
from google.protobuf.message import DecodeError
from groupbuy.registry.v1.registry_pb2 import Declared, OffsetsRecovered, Redriven, RegistryRecord

from eventlog.broker.partition_reader import PartitionReader
from eventlog.broker.security import Kafka, client
from eventlog.broker.topic_checks import check_topics, partition_counts
from eventlog.core.errors import TopicsDiffer
from eventlog.core.partitioner import partition_of
from eventlog.runtime.wall_clock import wall_clock_ms
from eventlog.views.recorded_skips import RecordedSkips, Skip, skip_key
from shared_kernel.topics import ALL, REGISTRY

DECLARED = "declared"
CREATE = "`groupbuy-ops topics create`"


def redriven_key(topic: str, partition: int) -> str:
    """Key of the entry with the progress of a redriven dead-letter partition."""
    return f"redriven/{topic}/{partition}"


@dataclass(slots=True)
class Registry:
    """The entries by key; a later one replaces an earlier one."""

    records: dict[str, RegistryRecord] = field(default_factory=dict)
    #: Messages about invalid records. They are ignored, so that a record of another writer does not stop a start.
    ignored: list[str] = field(default_factory=list)

    @property
    def declared(self) -> Declared | None:
        """The entry with the declared number of partitions; None before it is declared."""
        record = self.records.get(DECLARED)
        return record.declared if record is not None else None

    @property
    def skipped(self) -> set[tuple[str, int, int, bytes]]:
        """Topic, partition, offset and digest of every record that deciders skip."""
        every = [one.record_skipped for one in self.records.values() if one.WhichOneof("body") == "record_skipped"]
        return {(one.topic, one.partition, one.offset, one.sha256) for one in every}

    def redriven(self, topic: str, partition: int) -> Redriven:
        """The progress of a redriven dead-letter partition; at its beginning without an entry."""
        record = self.records.get(redriven_key(topic, partition))
        return record.redriven if record is not None else Redriven(topic=topic, partition=partition)

    def take(self, key: str, value: bytes | None) -> None:
        """Adds the next record of a partition. An invalid record is ignored and described in `ignored`.

        Raises TopicsDiffer if a different number of partitions is already declared: the placement of keys depends on
        it.
        """
        if value is None:
            self.ignored.append(f"{key}: it has no value, and nothing is removed from the registry")
            return
        try:
            record = RegistryRecord.FromString(value)
        except DecodeError as error:
            self.ignored.append(f"{key}: it can't be decoded: {error}")
            return
        if reason := mismatch(key, record):
            self.ignored.append(f"{key}: {reason}")
            return
        before = self.declared
        if key == DECLARED and before is not None and before.partitions != record.declared.partitions:
            both = f"{before.partitions} and {record.declared.partitions}"
            raise TopicsDiffer(
                f"{REGISTRY.name} declares both {both} partitions: it was written by hand. Way out: "
                "`groupbuy-ops verify` names the record, `groupbuy-ops topics rebuild --without` removes it"
            )
        self.records[key] = record


def skip_of(value: bytes) -> Skip | None:
    """The skip in an entry; None for other entries. Raises DecodeError."""
    record = RegistryRecord.FromString(value)
    if record.WhichOneof("body") != "record_skipped":
        return None
    found = record.record_skipped
    return Skip(found.topic, found.partition, found.offset, found.sha256.hex())


def key_of(record: RegistryRecord) -> str:
    """The key of an entry; for recovered offsets its prefix, without the time. Empty for an unknown body."""
    match record.WhichOneof("body"):
        case "declared":
            return DECLARED
        case "offsets_recovered":
            return f"recovered/{record.offsets_recovered.group}/"
        case "record_skipped":
            one = record.record_skipped
            return skip_key(one.topic, one.partition, one.offset)
        case "redriven":
            return redriven_key(record.redriven.topic, record.redriven.partition)
    return ""


def mismatch(key: str, record: RegistryRecord) -> str:
    """Why an entry does not belong under its key; empty if it does."""
    expected = key_of(record)
    if not expected:
        return "its content is unknown to this build"
    if key != expected and not (expected.endswith("/") and key.startswith(expected)):
        return f"its content belongs to the key {expected}"
    return ""


def recorded_skips(kafka: Kafka, instance: str) -> RecordedSkips:
    """The reader of recorded skips for the processors of a process."""
    return RecordedSkips(kafka, REGISTRY.name, skip_of, client_id=f"{instance}.registry")


async def read(kafka: Kafka, topic: str = REGISTRY.name) -> Registry:
    """Reads all current entries; none if the topic does not exist. `topic` may name a copy. Raises TopicsDiffer."""
    found = Registry()
    count = (await partition_counts(kafka, [replace(REGISTRY, name=topic)])).get(topic, 0)
    if count:
        async with PartitionReader.of_topic(kafka, topic, count) as partitions:
            async for _, record in partitions.all_records():
                found.take((record.key or b"").decode(errors="replace"), record.value)
    return found


async def declared(kafka: Kafka) -> int | None:
    """Reads the declared number of partitions; None before it is declared. Raises TopicsDiffer."""
    found = (await read(kafka)).declared
    return found.partitions if found is not None else None


class Writer:
    """Appends entries. Use as an async context manager."""

    def __init__(self, kafka: Kafka, operator: str, partitions: int) -> None:
        """`operator` is stored in each entry; `partitions` is the declared number."""
        self._operator = operator
        self._partitions = partitions
        self._producer = AIOKafkaProducer(**client(kafka), acks="all", enable_idempotence=True)

    async def __aenter__(self) -> Writer:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def append_recovered(self, entry: OffsetsRecovered) -> None:
        """Appends the recovered offsets of a consumer group, under a key with the time, so that none is replaced."""
        key = f"recovered/{entry.group}/{wall_clock_ms()}"
        await self.append(key, RegistryRecord(offsets_recovered=entry))

    async def append(self, key: str, record: RegistryRecord) -> None:
        """Sets the operator and the time of an entry and appends it. Returns once every in-sync replica has it."""
        record.who = self._operator
        record.time_ms = wall_clock_ms()
        partition = partition_of(key, self._partitions)
        await self._producer.send_and_wait(
            REGISTRY.name, record.SerializeToString(deterministic=True), key=key.encode(), partition=partition
        )


async def check(kafka: Kafka) -> int:
    """Checks the broker's topics against the list and the declared number of partitions; returns that number.

    Raises TopicsDiffer.
    """
    await check_topics(kafka, [REGISTRY], partitions=None)
    number = await declared(kafka)
    if number is None:
        raise TopicsDiffer(f"no number of partitions is declared: run {CREATE}")
    return await check_topics(kafka, ALL, partitions=number)
