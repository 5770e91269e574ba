"""The kernel's few errors.

Callers meet NotReady and BrokerUnavailable. Poisoned stops one partition. The others end the process (see crash.py).
"""

from __future__ import annotations

from hashlib import sha256
from typing import Self


class EventLogError(Exception):
    """Base of all errors of the kernel."""


class NotReady(EventLogError):
    """The state asked for is being recovered or belongs to another process. Ask again in a moment."""


class BrokerUnavailable(EventLogError):
    """The broker did not acknowledge in time. The record may or may not be in the log: send the same one again."""


class TopicsDiffer(EventLogError):
    """The broker's topics are not what the registry says. Create or mend them before starting."""


class InvariantViolation(EventLogError):
    """Something that exactness rules out has happened. The process must end with code 70, not go on."""


class Poisoned(InvariantViolation):
    """A record that this build can't take. Its partition stops; the others go on (see Processor.quarantine)."""

    def __init__(self, topic: str, partition: int, offset: int, sha256: str, reason: str) -> None:
        """`sha256` is the hexadecimal digest of the record's value, of no bytes where it has none."""
        super().__init__(f"{topic}-{partition} offset {offset} can't be taken: {reason} (sha256 {sha256})")
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.sha256 = sha256
        self.reason = reason

    @classmethod
    def by(cls, topic: str, partition: int, offset: int, value: bytes | None, reason: object) -> Self:
        """For a record with this value."""
        return cls(topic, partition, offset, sha256(value or b"").hexdigest(), str(reason))

    def at(self, topic: str, partition: int) -> Self:
        """The same, by one who knows where the record stands."""
        return type(self)(topic, partition, self.offset, self.sha256, self.reason)


class Spoiled(Poisoned):
    """As Poisoned, and the state in memory is half changed: nothing of it may be read or kept."""
