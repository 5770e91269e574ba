"""The interface between a router and a domain: which records of other keys follow from a decision."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from eventlog.core.aggregate import DecisionMessage


class Routed(NamedTuple):
    """One output record of a router."""

    topic: str
    #: Key of the target aggregate. It determines the partition.
    key: str
    value: bytes


class RouteMapper(ABC):
    """Maps the decisions of one batch to records of other keys.

    The mapping reads the decision and its position alone, so every router of every epoch makes the same records. A
    reader of the target topic recognises a repeat by the decision's partition and `cause`, which the value must carry.
    A decision yields at most one record for each key, unless the reader knows repeats by ids of its own.
    """

    #: The decision that was mapped last.
    decision: DecisionMessage

    @abstractmethod
    def decode(self, value: bytes, /) -> DecisionMessage:
        """Decodes a decision. Raises if it can't be decoded."""

    @abstractmethod
    def routes(self, record: Any) -> Sequence[Routed]:
        """The records that follow from a decision, in order, and sets `decision`.

        Raises for a decision that this build does not know in full: an old build does not drop what it can't read.
        """


class RouteMappers(ABC):
    """The mappers of one router."""

    @abstractmethod
    def for_partition(self, topic: str, partition: int) -> RouteMapper:
        """The mapper for one batch of a partition of a decision log."""
