"""A range of a partition is read with both ends, and its consumer is stopped however the iteration ends."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from eventlog.consuming import log_range
from eventlog.consuming.log_range import read_range
from tests.unit.eventlog.fake_log import FakeLog

TP = TopicPartition("log", 0)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> FakeLog:
    made = FakeLog([SimpleNamespace(offset=offset) for offset in range(10)])
    monkeypatch.setattr(log_range, "AIOKafkaConsumer", made)
    return made


async def test_both_ends_are_included(log: FakeLog) -> None:
    assert [record.offset async for record in read_range("kafka", TP, 3, 6)] == [3, 4, 5, 6]
    assert [record.offset async for record in read_range("kafka", TP, 6, 5)] == []
    assert log.stopped == 2


async def test_it_stops_before_a_poll_when_it_is_no_longer_wanted(log: FakeLog) -> None:
    read: list[int] = []
    async for record in read_range("kafka", TP, 0, 9, wanted=lambda: len(read) < 2):
        read.append(record.offset)
    assert (read, log.stopped) == ([0, 1], 1)


async def test_an_iteration_that_ends_early_stops_the_consumer(log: FakeLog) -> None:
    async with aclosing(read_range("kafka", TP, 0, 9)) as records:
        async for _ in records:
            break
    assert log.stopped == 1


async def test_it_waits_for_a_record_that_is_late(log: FakeLog) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), aclosing(read_range("kafka", TP, 8, 12)) as records:
            async for record in records:
                await asyncio.sleep(0)
                assert record.offset in (8, 9)
    assert log.stopped == 1


async def test_a_consumer_that_does_not_start_is_stopped(log: FakeLog) -> None:
    log.failing_starts = 1
    with pytest.raises(KafkaConnectionError):
        await anext(read_range("kafka", TP, 0, 1))
    assert log.stopped == 1
