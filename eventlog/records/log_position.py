"""The identity of a set of logs, and the position up to which one of their topics is folded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """The logs that a database can be a fold of."""

    #: Id of the Kafka cluster.
    cluster: str
    #: Partitions of every topic.
    partitions: int
    #: Topic id by name. A topic that is deleted and created again has a new id.
    topics: Mapping[str, str]


#: For logs without an identity: in tests, and where all state is in memory.
NO_IDENTITY = LogIdentity("", 0, {})


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """How far one topic is folded."""

    #: Offset of the next record to fold.
    next_offset: int
    #: SHA-256 of the value of the record before it; empty: not known.
    digest: bytes = b""
