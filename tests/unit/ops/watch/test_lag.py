"""Which consumer groups are readers: those of the inventory service only once somebody joined them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from eventlog.broker.group_members import ConsumerGroup, Member
from ops.watch import lag
from ops.watch.lag import OPTIONAL, READERS, LagReader, Lags
from shared_kernel.topics import ALL, GROUPS_ROUTER

END = 7


class FakeAdmin:
    """Every group committed END."""

    def __init__(self, **_: Any) -> None:
        pass

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def list_consumer_group_offsets(self, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
        return {TopicPartition(topic, 0): OffsetAndMetadata(END, "") for topic in READERS[group]}


class FakeConsumer:
    """Every partition ends at END, where everything is read."""

    def __init__(self, **_: Any) -> None:
        pass

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def beginning_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, END)


async def read(monkeypatch: pytest.MonkeyPatch, joined: set[str], working: set[str]) -> Lags:
    """The lags where some groups were joined once, and some of them have a member now."""

    async def describe(_: Any, group: str) -> ConsumerGroup:
        members = [Member("one-0", {topic: [0] for topic in READERS[group]}, "host:1")] if group in working else []
        return ConsumerGroup(members, group in joined)

    async def counts(*_: Any) -> dict[str, int]:
        return {spec.name: 1 for spec in ALL}

    for name, double in (("AIOKafkaAdminClient", FakeAdmin), ("AIOKafkaConsumer", FakeConsumer)):
        monkeypatch.setattr(lag, name, double)
    monkeypatch.setattr(lag, "describe", describe)
    monkeypatch.setattr(lag, "partition_counts", counts)
    async with LagReader("127.0.0.1:9") as reader:
        return await reader.read()


async def test_a_group_of_the_inventory_that_nobody_ever_joined_is_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = READERS.keys() - OPTIONAL
    found = await read(monkeypatch, set(needed), set(needed))
    assert found.members.keys() == needed
    assert {row.group for row in found.rows} == needed
    assert all(row.owner == "host:1" and not row.records for row in found.rows)


async def test_a_group_of_the_inventory_that_was_joined_and_lost_its_member_is_a_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = await read(monkeypatch, set(READERS), READERS.keys() - {GROUPS_ROUTER})
    assert found.members == {group: int(group != GROUPS_ROUTER) for group in READERS}
    assert {row.owner for row in found.of(GROUPS_ROUTER)} == {""}


async def test_another_group_that_nobody_ever_joined_is_a_reader_without_members(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = await read(monkeypatch, set(), set())
    assert found.members == dict.fromkeys(READERS.keys() - OPTIONAL, 0)
