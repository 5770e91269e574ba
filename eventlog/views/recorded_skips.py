"""Skips that operators have recorded in the log's own registry: the way past a record that no build will ever decode.

The registry is one compacted topic, read whole by every process. Its messages are the product's, so a decoder comes
from outside. A skip is honoured by a reader that can't take the record, and only for the value that the skip names by
its digest: whoever forges one makes no reader pass over a record that it can take.
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
    """What an entry of the registry skips."""

    topic: str
    partition: int
    offset: int
    #: Hexadecimal SHA-256 of the record's value; of no bytes where it has none.
    sha256: str


#: The skip of an entry of the registry; None for an entry of another kind. Raises for what is no entry.
SkipOf = Callable[[bytes], Skip | None]


def skip_key(topic: str, partition: int, offset: int) -> str:
    """Key of the entry that skips a record."""
    return f"skipped/{topic}/{partition}/{offset}"


def _wrong(key: str, skip: Skip | None) -> str:
    if skip is None or skip_key(*skip[:3]) == key:
        return ""
    return "it skips another record than its key says"


class RecordedSkips:
    """Implements `eventlog.processors.base.Skips` on the registry's topic. Start it before the processors."""

    def __init__(self, kafka: Kafka, topic: str, skip_of: SkipOf, *, client_id: str) -> None:
        self._reader = GlobalTable(kafka, topic, skip_of, client_id=client_id, wrong=_wrong)

    async def start(self, partitions: int) -> None:
        """Returns when the registry is read to its end; goes on reading after that."""
        await self._reader.start(partitions)

    async def stop(self) -> None:
        """Stops reading."""
        await self._reader.stop()

    async def recorded(self, topic: str, partition: int, offset: int, sha256: str) -> bool:
        """Whether a skip of the record at this place is recorded, for a value with this digest and no other."""
        skip = self._reader.find(skip_key(topic, partition, offset))
        return skip is not None and bool(sha256) and skip == Skip(topic, partition, offset, sha256)

    def is_skipped(self, topic: str, partition: int, record: Any) -> bool:
        """The same of a record that can't be taken, as far as the registry is read."""
        skip = self._reader.find(skip_key(topic, partition, record.offset))
        if skip is None:
            return False
        digest = digest_of(record.value or b"").hexdigest()
        if skip != Skip(topic, partition, record.offset, digest):
            return False
        log.warning("%s-%s offset %s is passed over, by a recorded skip", topic, partition, record.offset)
        return True
