"""The simulated log: topics, partitions, offsets, committed offsets, and the broker's clock, which may be wrong.

As in Kafka, records are appended in their order of arrival with the broker's own time, which can jump back. The content
of records is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Headers = Sequence[tuple[str, bytes]]


class Record:
    """One record, shaped like aiokafka's ConsumerRecord. `timestamp` is in milliseconds since the epoch."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(
        self, topic: str, partition: int, offset: int, timestamp: int, key: bytes, value: bytes, headers: Headers
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.timestamp = timestamp
        self.key: bytes | None = key
        self.value: bytes | None = value
        self.headers = headers


class Broker:
    """Logs and committed offsets. `now_ms` is the true time; timestamps have the broker's clock skew added."""

    def __init__(self, topics: Sequence[str], partitions: int, start_ms: int) -> None:
        self.now_ms = start_ms
        #: How far the broker's clock is ahead of the true time, in milliseconds; negative: behind.
        self.skew_ms = 0
        self.logs: dict[tuple[str, int], list[Record]] = {
            (topic, partition): [] for topic in topics for partition in range(partitions)
        }
        self.committed: dict[tuple[str, str, int], int] = {}
        #: Called with each record appended.
        self.watchers: list[Callable[[Record], None]] = []

    def append(self, topic: str, partition: int, key: bytes, value: bytes, headers: Headers = ()) -> Record:
        """Appends one record, and returns it."""
        log = self.logs[topic, partition]
        record = Record(topic, partition, len(log), self.now_ms + self.skew_ms, key, value, headers)
        log.append(record)
        for watcher in self.watchers:
            watcher(record)
        return record

    def commit(self, reader: str, topic: str, partition: int, offset: int) -> None:
        """Commits a reader's offset. A committed offset never goes back."""
        name = (reader, topic, partition)
        if offset > self.committed.get(name, 0):
            self.committed[name] = offset
