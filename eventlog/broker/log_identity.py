"""The identity of a log: the cluster's id, the topics' ids, and the digest of the record at an offset.

State on disk is valid only for the log that it was folded from. A topic that was deleted and created again has the same
name and another id (KIP-516). A cluster that was restored from a backup may have the same ids and other records; there
the digest of the record at the stored offset differs.
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
from eventlog.records.log_position import LogIdentity, SourcePosition

log = logging.getLogger(__name__)

#: Time limit of reading one record, in seconds.
RECORD_S = 10.0


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    """Kafka's UUID type, which aiokafka lacks."""

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
    """Version 10, the first with topic ids. aiokafka uses version 5."""

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

    Raises KafkaError, also if the broker does not know every topic yet or if the numbers of partitions differ: an
    incomplete identity could match a different log.
    """
    topics = list(topics)
    connection = AIOKafkaClient(**client(kafka))
    await connection.bootstrap()
    try:
        response = await connection.send(connection.get_random_node(), _MetadataRequest(topics))
    finally:
        await connection.close()
    rows = [row for row in response.to_object()["topics"] if not row["error_code"]]
    found = {row["topic"]: str(row["topic_id"]) for row in rows}
    counts = {row["topic"]: len(row["partitions"]) for row in rows}
    if unknown := set(topics) - found.keys():
        raise UnknownTopicOrPartitionError(f"the broker does not know {', '.join(sorted(unknown))}")
    if len(set(counts.values())) > 1:
        raise InvalidPartitionsError(f"the topics' numbers of partitions differ: {counts}")
    return LogIdentity(response.cluster_id or "", max(counts.values(), default=0), found)


class LogVerifier:
    """Compares stored positions with logs. An async context manager with one connection."""

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
        """How topics differ from those that were folded up to the given positions, or None. Raises KafkaError.

        A position whose record was deleted by retention counts as equal: the topic's id was compared before.
        """
        for topic, position in sources.items():
            tp = TopicPartition(topic, partition)
            end = (await self._consumer.end_offsets([tp]))[tp]
            if position.next_offset > end:
                return f"{topic}-{partition} ends at {end}, before the stored position {position.next_offset}"
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
                return f"the record of {topic}-{partition} at {last} is a different one"
        return None

    async def record_at(self, tp: TopicPartition, offset: int) -> Any:
        """The record at an offset, or None if compaction removed it. Raises KafkaError, also after RECORD_S."""
        self._consumer.assign([tp])
        self._consumer.seek(tp, offset)
        found = await self._consumer.getmany(tp, timeout_ms=int(RECORD_S * 1000), max_records=1)
        records = found.get(tp, [])
        if not records:
            raise KafkaTimeoutError(f"{tp} sent no record at {offset} in time")
        return records[0] if records[0].offset == offset else None
