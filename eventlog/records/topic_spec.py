"""The specification of a topic, and the names of dead-letter topics. Pure: nothing here talks to a broker.

A product lists its topics in one place, as TopicSpec objects. Creation, checks, ACLs and tools derive from that list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import Message

#: Value of `retention.ms` for a topic that keeps all its records.
FOR_EVER = -1
DAY_MS = 24 * 60 * 60 * 1000
#: How long dead letters are kept.
_DEAD_LETTER_RETENTION_MS = 30 * DAY_MS


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic: its one message type, its key, its one writer, and the consumer groups that read it."""

    name: str
    #: None for a topic of raw bytes, such as a dead-letter topic.
    message: type[Message] | None
    #: The entity that the key identifies.
    key: str
    #: The service that writes the topic.
    writer: str
    #: Consumer groups, each named `<product>.<service>.<processor>`.
    readers: tuple[str, ...]
    retention_ms: int
    compacted: bool = False
    #: Services that read all of the topic without a consumer group. The writer need not be named.
    followers: tuple[str, ...] = ()
    #: Whether other systems may read it, as the principal `reader`.
    public: bool = False

    @property
    def type_name(self) -> str:
        """Full name of the message type; empty for raw bytes."""
        return str(self.message.DESCRIPTOR.full_name) if self.message else ""

    def config(self) -> dict[str, str]:
        """The topic's settings at the broker. LogAppendTime makes the broker's clock the only clock."""
        return {
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": str(FOR_EVER if self.compacted else self.retention_ms),
            "retention.bytes": "-1",
        }


def service_of(reader: str) -> str:
    """The service that a consumer group belongs to: `shop.groups.sequencer` -> `groups`."""
    return reader.split(".")[-2]


def dead_letter_name(topic: str, service: str) -> str:
    """Name of the topic for the records of `topic` that `service` could not decode."""
    return f"{topic}.{service}.dlq"


def dead_letter_topic(topic: TopicSpec, service: str) -> TopicSpec:
    """The topic for the records of `topic` that `service` could not decode: raw bytes, with their origin in headers."""
    return TopicSpec(dead_letter_name(topic.name, service), None, topic.key, service, (), _DEAD_LETTER_RETENTION_MS)


def with_dead_letters(topics: Iterable[TopicSpec]) -> tuple[TopicSpec, ...]:
    """The topics, each followed by the dead-letter topics of the services that read it.

    A service has one for a topic that another service writes, and for a topic that it reads into a projection.
    """
    found: dict[str, TopicSpec] = {}
    for topic in topics:
        found[topic.name] = topic
        for reader in topic.readers:
            service = service_of(reader)
            spec = dead_letter_topic(topic, service)
            if topic.writer != service or reader.endswith(".projection"):
                found.setdefault(spec.name, spec)
    return tuple(found.values())


def sources_of_dead_letters(topics: Iterable[TopicSpec]) -> dict[str, TopicSpec]:
    """The source topic of each dead-letter topic among `topics`, by the dead-letter topic's name.

    The source follows from the specifications alone; headers of a record can't change it.
    """
    listed = list(topics)
    names = {topic.name for topic in listed if topic.message is None}
    found = {dead_letter_name(topic.name, service_of(reader)): topic for topic in listed for reader in topic.readers}
    return {name: topic for name, topic in found.items() if name in names}
