"""The interface between a sequencer and a domain: how the records of several topics become records of one inbox."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

from eventlog.core.aggregate import DecisionMessage


class DependencyUnavailable(Exception):
    """A record can't be mapped before other data is loaded. Call `load_dependency`, then map the record again."""


class RecordMapper(ABC):
    """Maps the records of one batch to inbox records."""

    #: Whether the records come from a decision log. Only our deciders write it, so a record that can't be mapped stops
    #: the partition; in other topics such a record is dead-lettered.
    from_decision_log = False
    #: The decision that was mapped last, if they come from a decision log.
    decision: DecisionMessage | None = None

    def decode(self, value: bytes, /) -> DecisionMessage:
        """Decodes a decision, if the records come from a decision log."""
        raise NotImplementedError

    @abstractmethod
    def map_record(self, record: Any) -> bytes | None:
        """The value of the inbox record for a record, or None if the reader of the inbox needs none.

        A body that this build does not know is mapped too: the reader stops at it. Raises Undecodable, and
        DependencyUnavailable unless `load_dependency` was called for the same dependency.
        """

    async def load_dependency(self, missing: DependencyUnavailable) -> None:
        """Loads the missing data, or finds that it does not exist."""
        raise missing

    def reject(self, record: Any, error: str) -> bytes | None:
        """The value of an inbox record that rejects an undecodable record, or None if no reader waits for it."""
        return None


class InboxMapper(Protocol):
    """The record mappers of one inbox."""

    def for_partition(self, topic: str, partition: int) -> RecordMapper:
        """The mapper for one batch of a partition."""
        ...
