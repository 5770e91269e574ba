"""A broker in memory: the part of aiokafka's admin client and consumer that the creation of topics uses."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from eventlog.admin import topic_creation
from eventlog.broker import topic_checks
from eventlog.records.topic_spec import TopicSpec


class FakeBroker:
    """Holds topics and committed offsets; `changes` lists each request that changed something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.partitions: dict[str, int] = {}
        self.settings: dict[str, dict[str, str]] = {}
        self.changes: list[str] = []
        monkeypatch.setattr(topic_creation, "AIOKafkaAdminClient", lambda **_: self)
        monkeypatch.setattr(topic_checks, "AIOKafkaAdminClient", lambda **_: self)
        monkeypatch.setattr(topic_creation, "AIOKafkaConsumer", lambda **_: _Consumer(self))

    def has(self, topic: TopicSpec, partitions: int, **changed: str) -> None:
        """Adds a topic as `create_topics` makes it, except for the changed settings."""
        self.partitions[topic.name] = partitions
        self.settings[topic.name] = {**topic.config(), **{name.replace("_", "."): to for name, to in changed.items()}}

    async def start(self) -> None:
        """The clients' method."""

    async def close(self) -> None:
        """The admin client's method."""

    async def list_topics(self) -> list[str]:
        """The admin client's method."""
        return list(self.partitions)

    async def describe_topics(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The admin client's method."""
        return [{"topic": name, "error_code": 0, "partitions": [0] * self.partitions[name]} for name in names]

    async def describe_configs(self, resources: Sequence[Any]) -> list[Any]:
        """The admin client's method."""
        rows = [(0, "", 2, one.name, list(self.settings[one.name].items())) for one in resources]
        return [SimpleNamespace(resources=rows)]

    async def create_topics(self, topics: Sequence[Any]) -> Any:
        """The admin client's method."""
        for topic in topics:
            self.changes.append(f"create {topic.name}")
            self.partitions[topic.name] = topic.num_partitions
            self.settings[topic.name] = dict(topic.topic_configs)
        return SimpleNamespace(topic_errors=[])


class _Consumer:
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def assign(self, tps: Sequence[Any]) -> None:
        # aiokafka waits for a partition that does not exist until its time-out, 40 s.
        missing = [tp for tp in tps if tp.partition >= self._broker.partitions[tp.topic]]
        assert missing == []

    async def end_offsets(self, tps: Sequence[Any]) -> dict[Any, int]:
        return dict.fromkeys(tps, 0)

    async def committed(self, tp: Any) -> None:
        return None

    async def commit(self, offsets: dict[Any, int]) -> None:
        self._broker.changes += [f"commit {tp.topic}-{tp.partition}" for tp in offsets]
