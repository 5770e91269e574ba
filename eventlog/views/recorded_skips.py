"""Skips of records that no build can process, as operators have recorded them in the log's registry.

The registry is one compacted topic, which every process reads completely. Its message type belongs to the product, so
the caller passes a decoder. A reader honours a skip only for a record that it can't process, and only if the record's
value has the digest that the skip names. So a forged skip can't make a reader ignore a valid record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from hashlib import sha256 as digest_of
from typing import Any, NamedTuple

from eventlog.broker.security import Kafka
from eventlog.views.global_table import GlobalTable

log = logging.getLogger(__name__)


class Skip(NamedTuple):
    """The record that an entry of the registry skips."""

    topic: str
    partition: int
    offset: int
    #: Hexadecimal SHA-256 of the record's value, or of no bytes if it has none.
    sha256: str


#: Decodes an entry of the registry to its skip, or None for an entry of another kind. Raises for an invalid entry.
SkipOf = Callable[[bytes], Skip | None]


def skip_key(topic: str, partition: int, offset: int) -> str:
    """The key of the entry that skips a record."""
    return f"skipped/{topic}/{partition}/{offset}"


def _mismatch(key: str, skip: Skip | None) -> str:
    if skip is None or skip_key(*skip[:3]) == key:
        return ""
    return "it skips another record than its key names"


class RecordedSkips:
    """Implements `eventlog.processors.guards.quarantine.Skips` on the registry's topic. Start it before the
    processors."""

    def __init__(self, kafka: Kafka, topic: str, skip_of: SkipOf, *, client_id: str) -> None:
        self._table = GlobalTable(kafka, topic, skip_of, client_id=client_id, mismatch=_mismatch)

    async def start(self, partitions: int) -> None:
        """Reads the registry to its end, then continues in the background."""
        await self._table.start(partitions)

    async def stop(self) -> None:
        """Stops reading."""
        await self._table.stop()

    async def recorded(self, topic: str, partition: int, offset: int, sha256: str) -> bool:
        """Whether a skip is recorded of the record at this offset with a value of this digest."""
        skip = self._table.find(skip_key(topic, partition, offset))
        return skip is not None and bool(sha256) and skip == Skip(topic, partition, offset, sha256)

    def is_skipped(self, topic: str, partition: int, record: Any) -> bool:
        """Whether a skip of this record is recorded. Logs it, because the caller then ignores the record."""
        skip = self._table.find(skip_key(topic, partition, record.offset))
        if skip is None:
            return False
        digest = digest_of(record.value or b"").hexdigest()
        if skip != Skip(topic, partition, record.offset, digest):
            return False
        log.warning("%s-%s offset %s is skipped, as an operator has recorded", topic, partition, record.offset)
        return True
