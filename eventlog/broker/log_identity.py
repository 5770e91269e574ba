"""Who a log is: the cluster's id, the topics' ids, and the record at an offset.

State on disk is used only where the log is still the one that it was folded from. A topic that was deleted and made
again has the same name and another id (KIP-516); a cluster restored from a copy may have the same ids and other
records, which the digest of the record at the kept offset tells apart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, ClassVar, Self
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import InvalidPartitionsError, KafkaTimeoutError, UnknownTopicOrPartitionError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from eventlog.broker.security import Kafka, client
from eventlog.state.database import LogIdentity, SourcePosition

log = logging.getLogger(__name__)

#: Seconds that the broker gets to hand over a record that it has.
RECORD_S = 10.0


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    """Kafka's UUID; aiokafka has none."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: Any) -> UUID:
        return UUID(bytes=data.read(16))


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestStruct(RequestStruct):  # type: ignore[misc]
    """Version 10, the first that tells topic ids; aiokafka asks with version 5."""

    FLEXIBLE_VERSION: ClassVar[bool] = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestStruct]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics: list[tuple[UUID, str, dict[int, bytes]]] = [(UUID(int=0), topic, {}) for topic in topics]

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        return request_struct_class(self._topics, False, False, False, {})


async def identity_of(kafka: Kafka, topics: Iterable[str]) -> LogIdentity:
    """The cluster's id, the topics' ids and their number of partitions.

    Raises KafkaError, also where the broker does not know every topic (yet), or their numbers of partitions differ: an
    identity that lacks something would fit a log that it should not, or the other way round.
    """
    topics = list(topics)
    asking = AIOKafkaClient(**client(kafka))
    await asking.bootstrap()
    try:
        answer = await asking.send(asking.get_random_node(), _MetadataRequest(topics))
    finally:
        await asking.close()
    rows = [row for row in answer.to_object()["topics"] if not row["error_code"]]
    found = {row["topic"]: str(row["topic_id"]) for row in rows}
    counts = {row["topic"]: len(row["partitions"]) for row in rows}
    if unknown := set(topics) - found.keys():
        raise UnknownTopicOrPartitionError(f"the broker does not know {', '.join(sorted(unknown))}")
    if len(set(counts.values())) > 1:
        raise InvalidPartitionsError(f"the topics' numbers of partitions differ: {counts}")
    return LogIdentity(answer.cluster_id or "", max(counts.values(), default=0), found)


class LogReader:
    """Reads single records of logs, to compare them. Use it as an async context manager; it makes one connection."""

    def __init__(self, kafka: Kafka) -> None:
        self._consumer = AIOKafkaConsumer(**client(kafka), enable_auto_commit=False, fetch_max_wait_ms=100)

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def differs(self, partition: int, sources: Mapping[str, SourcePosition]) -> str | None:
        """In which way topics are not those that were folded so far; None: they are. Raises KafkaError.

        A record that retention has taken can't be compared; its topic's id has been.
        """
        for topic, position in sources.items():
            tp = TopicPartition(topic, partition)
            end = (await self._consumer.end_offsets([tp]))[tp]
            if position.next_offset > end:
                return f"{topic}-{partition} ends at {end}, the fold had come to {position.next_offset}"
            if not position.digest:
                continue
            begin = (await self._consumer.beginning_offsets([tp]))[tp]
            last = position.next_offset - 1
            if last < begin:
                continue
            record = await self.record_at(tp, last)
            if record is None:
                return f"{topic}-{partition} has no record at {last}"
            if sha256(record.value or b"").digest() != position.digest:
                return f"the record of {topic}-{partition} at {last} is another one"
        return None

    async def record_at(self, tp: TopicPartition, offset: int) -> Any:
        """The record at an offset; None where the log has none there. Raises KafkaError, also for a slow broker."""
        self._consumer.assign([tp])
        self._consumer.seek(tp, offset)
        found = await self._consumer.getmany(tp, timeout_ms=int(RECORD_S * 1000), max_records=1)
        records = found.get(tp, [])
        if not records:
            raise KafkaTimeoutError(f"{tp} sent no record at {offset} in time")
        return records[0] if records[0].offset == offset else None
