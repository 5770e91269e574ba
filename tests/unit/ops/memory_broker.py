"""A broker's topics in memory, behind the consumer and the admin client that the commands use. One partition each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition

from eventlog.broker import partition_reader, topic_checks
from ops.broker import connection
from ops.log import reader


class Stored(NamedTuple):
    """A record as aiokafka returns it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class MemoryBroker:
    """Topics with their records, in order."""

    def __init__(self, topics: Iterable[str]) -> None:
        self.records: dict[str, list[Stored]] = {name: [] for name in topics}

    def append(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]] = ()
    ) -> None:
        """Appends a record. Times are one second apart."""
        log = self.records[topic]
        log.append(Stored(topic, 0, len(log), 1_000 * (len(log) + 1), key, value, tuple(headers)))

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Puts the broker in place of a real one."""

        async def answers(*_: object) -> None:
            return None

        patch.setattr(connection, "probe", answers)
        for module in (reader, partition_reader):
            patch.setattr(module, "AIOKafkaConsumer", lambda **_: _Consumer(self.records))
        for module in (reader, topic_checks):
            patch.setattr(module, "AIOKafkaAdminClient", lambda **_: _Admin(self.records))


class _Admin:
    def __init__(self, records: Mapping[str, list[Stored]]) -> None:
        self._records = records

    async def start(self) -> None:
        """Does nothing."""

    async def close(self) -> None:
        """Does nothing."""

    async def list_topics(self) -> list[str]:
        return list(self._records)

    async def describe_topics(self, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
        return [
            {"topic": name, "error_code": 0 if name in self._records else 3, "partitions": [{"partition": 0}]}
            for name in (self._records if names is None else names)
        ]


class _Consumer:
    def __init__(self, records: Mapping[str, list[Stored]]) -> None:
        self._records = records
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    async def start(self) -> None:
        """Does nothing."""

    async def stop(self) -> None:
        """Does nothing."""

    def assign(self, tps: Iterable[TopicPartition]) -> None:
        self._positions = dict.fromkeys(tps, 0)

    def pause(self, *tps: TopicPartition) -> None:
        self._paused |= set(tps)

    def resume(self, *tps: TopicPartition) -> None:
        self._paused -= set(tps)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: len(self._records[tp.topic]) for tp in tps}

    async def getmany(self, *tps: TopicPartition, **_: int) -> dict[TopicPartition, list[Stored]]:
        found = {}
        for tp in tps or self._positions:
            if tp not in self._paused:
                records = self._records[tp.topic][self._positions[tp] :]
                self._positions[tp] += len(records)
                if records:
                    found[tp] = records
        return found
