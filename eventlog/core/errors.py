"""The kernel's exceptions.

Callers handle NotReady and BrokerUnavailable. TopicsDiffer ends a start, or an operator's command. Poisoned quarantines
one partition. Every other InvariantViolation ends the process with code 70 (see eventlog/runtime/abort.py).
"""

from __future__ import annotations

from hashlib import sha256
from typing import Self


class EventLogError(Exception):
    """Base class of the kernel's exceptions."""


class NotReady(EventLogError):
    """The state is being recovered, or another process owns it. The caller may retry."""


class BrokerUnavailable(EventLogError):
    """The broker did not acknowledge in time. The record may or may not be in the log; retry with the same record."""


class TopicsDiffer(EventLogError):
    """The broker's topics, settings or ACLs differ from the specifications. An operator must correct them."""


class InvariantViolation(EventLogError):
    """An invariant of the log or of the program is violated. The process ends with code 70."""


class Poisoned(InvariantViolation):
    """This build can't process a record. The record's partition is quarantined; other partitions continue."""

    def __init__(self, topic: str, partition: int, offset: int, sha256: str, reason: str) -> None:
        """`sha256` is the hexadecimal digest of the record's value, or of no bytes if the record has none."""
        super().__init__(f"{topic}-{partition} offset {offset} can't be processed: {reason} (sha256 {sha256})")
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.sha256 = sha256
        self.reason = reason

    @classmethod
    def for_record(cls, topic: str, partition: int, offset: int, value: bytes | None, reason: object) -> Self:
        """The error for a record with this value."""
        return cls(topic, partition, offset, sha256(value or b"").hexdigest(), str(reason))

    def at(self, topic: str, partition: int) -> Self:
        """The same error with the record's topic and partition."""
        return type(self)(topic, partition, self.offset, self.sha256, self.reason)


class Spoiled(Poisoned):
    """As Poisoned, and the state in memory is half changed. It may be neither read nor saved."""
