"""Watch exports the traces of the log: by flag or all, and across an outage of the broker."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from ops.errors import OpsError
from ops.trace import follow
from ops.trace.follow import REWIND_S, Sample, TraceFollower
from tests.unit.chassis.support import eventually
from tests.unit.ops.trace.conftest import CALLER, Recorded, record
from tests.unit.ops.trace.in_memory_system import TOPICS, InMemorySystem, LogRecord
from tests.unit.ops.trace.otlp_receiver import receiver

NOW_MS = 1_700_000_900_000


class FakeReader:
    """A reader of recorded records, topic by topic. The first one meets an outage of the broker."""

    records: list[LogRecord]
    opened: int
    sought: list[int]

    def __init__(self, kafka: str, topics: list[str]) -> None:
        assert topics == [spec.name for spec in TOPICS]
        self._left = list(type(self).records)

    async def __aenter__(self) -> FakeReader:
        type(self).opened += 1
        if self.opened == 1:
            raise OpsError("the broker is away")
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def seek_to_time(self, since_ms: int) -> None:
        self.sought.append(since_ms)

    async def read_to_end(self, take: Any, lead_ms: float) -> int:
        for spec in TOPICS:
            take(spec.name, [one for one in self._left if one.topic == spec.name])
        count, self._left = len(self._left), []
        return count


@pytest.fixture
async def reader(monkeypatch: pytest.MonkeyPatch) -> type[FakeReader]:
    played: Recorded = await record(InMemorySystem(monkeypatch, share=0.0))
    FakeReader.records, FakeReader.opened, FakeReader.sought = played.records, 0, []
    monkeypatch.setattr(follow, "Reader", FakeReader)
    monkeypatch.setattr(follow, "RETRY_S", 0.01)
    monkeypatch.setattr(follow, "POLL_S", 0.01)
    return FakeReader


@pytest.mark.parametrize("sample", list(Sample))
async def test_the_sampled_traces_or_all_reach_the_collector(reader: type[FakeReader], sample: Sample) -> None:
    (leader,) = {UUID(one.headers[1][1].decode().split(":")[0]).hex for one in reader.records[:1]}
    traces = {CALLER.trace_id} if sample is Sample.FLAG else {CALLER.trace_id, leader}
    async with receiver() as collector:
        follower = TraceFollower("b:1", collector.target, sample, now_ms=lambda: NOW_MS)
        running = asyncio.create_task(follower.run())
        wanted = 19 if sample is Sample.FLAG else len(reader.records)
        await eventually(lambda: len(collector.spans) >= wanted)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert {one.trace_id.hex() for _, one in collector.spans} == traces
    assert reader.sought == [NOW_MS - REWIND_S * 1_000]
    assert follower.exporter.dropped == 0


async def test_spans_wait_for_a_collector_that_starts_later(reader: type[FakeReader]) -> None:
    async with receiver() as collector:
        target = collector.target
    follower = TraceFollower("b:1", target, Sample.ALL, now_ms=lambda: NOW_MS)
    running = asyncio.create_task(follower.run())
    await eventually(lambda: bool(follower.exporter.error) and follower.exporter.queued == len(reader.records))
    async with receiver(target) as collector:
        await eventually(lambda: len(collector.spans) == len(reader.records))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert follower.exporter.dropped == 0
