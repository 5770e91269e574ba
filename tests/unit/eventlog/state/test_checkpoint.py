"""A checkpoint is written later if its gap in the log can't be read now, and not at all if the gap holds a fork."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from eventlog.consuming import log_range
from eventlog.core.partition_state import PartitionState
from eventlog.records.codec import Codec
from eventlog.state import checkpoint
from eventlog.state.checkpoint import Checkpointer
from eventlog.state.rocksdb_store import RocksDBStore
from tests.unit.eventlog.counting import Counter, Counting, add, record
from tests.unit.eventlog.fake_log import FakeLog


def digest(value: bytes | None) -> bytes:
    return sha256(value or b"").digest()


@pytest.fixture
def state(tmp_path: Path) -> PartitionState[Counter]:
    return PartitionState(Counting(), 0, RocksDBStore(tmp_path / "0", Codec.of("counting-1", Counter)))


def gap(state: PartitionState[Counter], monkeypatch: pytest.MonkeyPatch, *, between: bytes | None = None) -> FakeLog:
    """Our first decision, a record by another owner, our second decision."""
    first, second = (state.decide(record(n, add(1, str(n)))) for n in range(2))
    state.on_acknowledged(0, 1, digest(first))
    state.on_acknowledged(2, 1, digest(second))
    log = FakeLog([record(0, first), record(1, between or first), record(2, second)])
    monkeypatch.setattr(log_range, "AIOKafkaConsumer", log)
    return log


def checkpointer() -> Checkpointer:
    return Checkpointer("kafka", "log", list, lambda partition: ())


async def write(state: PartitionState[Counter], one: Checkpointer) -> int:
    assert isinstance(state.states, RocksDBStore)
    await one.write(state, state.states)
    return one.written


async def test_a_gap_that_could_not_be_read_is_read_for_the_next_checkpoint(
    state: PartitionState[Counter], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, one = gap(state, monkeypatch), checkpointer()
    log.failing_starts = 1
    assert await write(state, one) == 0
    assert (state.applied, log.stopped) == (0, 1)
    assert await write(state, one) == 1
    assert (state.applied, state.digest) == (2, digest(log.records[2].value))
    assert isinstance(state.states, RocksDBStore)
    assert state.states.position.sources["log"].next_offset == 3


async def test_a_silent_broker_does_not_block_the_checkpoints_of_other_partitions(
    state: PartitionState[Counter], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, one = gap(state, monkeypatch), checkpointer()
    monkeypatch.setattr(checkpoint, "GAP_S", 0.05)

    async def nothing(tp: Any, timeout_ms: int) -> dict[Any, list[Any]]:
        await asyncio.sleep(0.01)
        return {}

    def silent(**_: Any) -> Any:
        made = log()
        made.getmany = nothing
        return made

    monkeypatch.setattr(log_range, "AIOKafkaConsumer", silent)
    assert await write(state, one) == 0


async def test_a_fork_in_the_gap_prevents_the_checkpoint(
    state: PartitionState[Counter], monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = PartitionState(Counting(), 0).decide(record(0, add(7, "foreign")))
    gap(state, monkeypatch, between=foreign)
    # LogWatch stops the partition.
    writer = checkpointer()
    await write(state, writer)
    assert writer.written == 0
