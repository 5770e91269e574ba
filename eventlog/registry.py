"""Skips that operators have recorded in the log's own registry: the way past a record that no build will ever decode.

The registry is one compacted topic, read whole by every process. Its messages are the product's, so a decoder comes
from outside.
"""

from __future__ import annotations

from collections.abc import Callable

from eventlog.compacted import CompactedReader
from eventlog.security import Kafka

#: Hexadecimal SHA-256 of the value that an entry of the registry skips; empty for an entry that skips nothing.
DigestOf = Callable[[bytes], str]


def skip_key(topic: str, partition: int, offset: int) -> str:
    """Key of the entry that skips a record."""
    return f"skipped/{topic}/{partition}/{offset}"


class RecordedSkips:
    """Implements `eventlog.processor.Skips` on the registry's topic. Start it before the processors."""

    def __init__(self, kafka: Kafka, topic: str, digest_of: DigestOf, *, client_id: str) -> None:
        self._reader = CompactedReader(kafka, topic, digest_of, client_id=client_id)

    async def start(self, partitions: int) -> None:
        """Returns when the registry is read to its end; goes on reading after that."""
        await self._reader.start(partitions)

    async def stop(self) -> None:
        """Stops reading."""
        await self._reader.stop()

    async def recorded(self, topic: str, partition: int, offset: int, sha256: str) -> bool:
        """Whether a skip of the record at this place is recorded, for a value with this digest and no other."""
        return bool(sha256) and self._reader.find(skip_key(topic, partition, offset)) == sha256
