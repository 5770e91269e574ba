"""States on disk: the index of due times holds every open aggregate and no other, and a position names its record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from eventlog.core.aggregate import Aggregate
from eventlog.core.partition_state import PartitionState
from eventlog.core.state_store import FOR_EVER_MS, CheckpointPosition
from eventlog.core.timers import BrokerClock
from eventlog.records.codec import Codec
from eventlog.state import database
from eventlog.state.database import until_closed
from eventlog.state.rocksdb_store import RocksDBStore
from tests.unit.eventlog.counting import LIFE_MS, Counter, Counting, add, record

CODEC: Codec[Counter] = Codec.of("counting-1", Counter)
BASE_MS = 1_700_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0"


def opened(path: Path) -> RocksDBStore[Counter]:
    return RocksDBStore(path, CODEC, 64)


def aggregate(number: int, version: int = 1) -> Aggregate[Counter]:
    return Aggregate(f"k{number:05d}", Counter(total=number), version, number, BASE_MS, bytes([version]) * 32)


def keep(states: RocksDBStore[Counter], at: int = 0) -> None:
    states.save_folded(CheckpointPosition(at, at, b"d" * 32))


def index(states: RocksDBStore[Counter]) -> list[bytes]:
    return [name for name, _ in states._database.scan(b"d")]


def due(states: RocksDBStore[Any], after_ms: int = -1, most: int = 1_000_000) -> tuple[list[tuple[int, str]], int]:
    found: list[tuple[int, str]] = []
    steps = states.due_after(after_ms, most)
    while True:
        try:
            one = next(steps)
        except StopIteration as end:
            return found, end.value
        if one is not None:
            found.append(one)


def test_an_aggregate_without_due_time_has_no_index_entry(path: Path) -> None:
    states = opened(path)
    for number in range(3_000):
        states.changed(aggregate(number), BASE_MS + number)
    keep(states)
    assert len(index(states)) == 3_000
    states.close()
    # Aggregates that are read from disk know their entry, too.
    states = opened(path)
    for number in range(2_990):
        found = states.get(f"k{number:05d}")
        assert found is not None
        states.changed(found, None)
    keep(states)
    assert len(index(states)) == 10
    keep(states)
    assert states._low_ms == BASE_MS + 2_990
    states.close()
    assert opened(path)._low_ms == BASE_MS + 2_990


def test_an_aggregate_whose_due_time_moves_has_one_index_entry(path: Path) -> None:
    states = opened(path)
    one = aggregate(1)
    for due_ms in (BASE_MS, BASE_MS + 5, BASE_MS - 5, BASE_MS - 5):
        states.changed(one, due_ms)
        keep(states)
        assert due(states) == ([(due_ms, one.key)], FOR_EVER_MS)
        assert len(index(states)) == 1
    assert states._low_ms <= BASE_MS - 5
    states.close()


def test_the_next_checkpoint_writes_what_a_cancelled_one_did_not(path: Path) -> None:
    states = opened(path)
    one = aggregate(1)
    states.changed(one, BASE_MS)
    keep(states)
    states.changed(one, BASE_MS + 5)
    for _ in states.begin_checkpoint():
        continue
    states.end_checkpoint()
    assert states.unsaved == 1
    keep(states, 1)
    assert index(states) == [b"d" + (BASE_MS + 5).to_bytes(8, "big") + one.key.encode()]
    states.close()


def test_an_aggregate_that_changes_while_it_is_encoded_is_written_with_its_new_due_time(path: Path) -> None:
    states = opened(path)
    first, second = aggregate(1), aggregate(2)
    states.changed(first, None)
    states.changed(second, None)
    steps = states.begin_checkpoint()
    next(steps)
    second.version, second.state.total = 2, 99
    states.changed(second, BASE_MS + 7)
    for _ in steps:
        continue
    states.finish_checkpoint(CheckpointPosition(0, 0))
    states.end_checkpoint()
    states.close()
    again = opened(path)
    found = again.get(second.key)
    assert found is not None
    # A fold drops the decision, since the state holds it already, and so would not set the timer.
    assert (found.version, found.state.total) == (2, 99)
    assert due(again)[0] == [(BASE_MS + 7, second.key)]
    again.close()


def test_a_portion_of_due_times_ends_between_two_times(path: Path) -> None:
    states = opened(path)
    for number in range(1_000):
        states.changed(aggregate(number), BASE_MS + number // 10)
    keep(states)
    found, reached = due(states, most=15)
    assert (len(found), reached) == (20, BASE_MS + 1)
    found, reached = due(states, reached, 10_000)
    assert (len(found), reached) == (980, FOR_EVER_MS)
    states.close()


def test_no_due_time_is_missed_while_a_checkpoint_moves_them_to_disk(path: Path) -> None:
    states = opened(path)
    for number in range(1_000, 1_300):
        states.changed(aggregate(number), BASE_MS + number)
    keep(states)
    states.changed(aggregate(0), BASE_MS)
    steps = states.due_after(-1, 10_000)
    found = [next(steps)]
    # Written behind the position of the scan.
    keep(states)
    found += list(steps)
    assert {one[1] for one in found if one} == {"k00000", *(f"k{number:05d}" for number in range(1_000, 1_300))}
    states.close()


def filled(path: Path, count: int, held: int) -> PartitionState[Counter]:
    """A partition with `count` open counters on disk, just opened by a new owner."""
    first = PartitionState(Counting(), 0, opened(path))
    for number in range(count):
        made = first.decide(record(number, add(1, "x"), f"k{number:05d}".encode(), BASE_MS + number))
        first.on_acknowledged(number, 1, sha256(made or b"").digest())
    assert isinstance(first.states, RocksDBStore)
    first.states.save_folded(first.checkpoint_position)
    first.close()
    return PartitionState(Counting(), 0, opened(path), timers_in_memory=held)


def load(state: PartitionState[Counter]) -> None:
    for _ in state.load_timers():
        continue


def test_timers_are_loaded_in_portions_and_each_fires_when_it_is_due(path: Path) -> None:
    state = filled(path, 1_000, 64)
    clock, seen, most = BrokerClock(), [], 0
    clock.on_acknowledged(BASE_MS, 0)
    for now in range(0, 5_000, 20):
        load(state)
        most = max(most, len(state.timers))
        clock.on_acknowledged(BASE_MS + now, now)
        for key, due_ms in state.timers_to_fire(clock, now, 30):
            assert due_ms <= BASE_MS + now
            seen.append(key)
            state.decide(record(1_000 + len(seen), state.domain.tick(due_ms), key.encode(), BASE_MS + now))
    assert len(seen) == len(set(seen)) == 1_000
    assert most <= 160
    state.close()


def test_a_new_owner_learns_the_time_from_one_tick_without_traffic(path: Path) -> None:
    state = filled(path, 5, 64)
    clock = BrokerClock()
    load(state)
    assert state.next_fire_in_ms(clock, 0) == 0
    keys = state.timers_to_fire(clock, 0, 500)
    assert keys == [("k00000", BASE_MS + LIFE_MS)]
    # The broker acknowledges it with its own time, a day later.
    clock.on_acknowledged(BASE_MS + 86_400_000, 5)
    assert len(state.timers_to_fire(clock, 5, 500)) == 5
    state.close()


def test_a_tick_that_was_too_early_does_not_delay_its_timer(path: Path) -> None:
    state = filled(path, 1, 64)
    clock = BrokerClock()
    load(state)
    assert len(state.timers_to_fire(clock, 0, 500)) == 1
    clock.on_acknowledged(BASE_MS, 0)
    assert state.timers_to_fire(clock, 0, 500) == []
    assert state.next_fire_in_ms(clock, 0) == LIFE_MS
    assert len(state.timers_to_fire(clock, LIFE_MS, 500)) == 1
    state.close()


def test_a_position_names_the_digest_of_its_record(path: Path) -> None:
    live = PartitionState(Counting(), 0)
    log = [live.decide(record(n, add(1, str(n)))) or b"" for n in range(4)]
    # A duplicate by another owner is last.
    log.append(log[1])
    folded = PartitionState(Counting(), 0, opened(path))
    for offset, value in enumerate(log):
        folded.apply(record(offset, value))
        assert folded.checkpoint_position == CheckpointPosition(offset, min(offset, 3), sha256(value).digest())
    assert isinstance(folded.states, RocksDBStore)
    folded.states.save_folded(folded.checkpoint_position)
    folded.close()
    assert opened(path).checkpoint_position == folded.checkpoint_position
    # The same by acknowledged output.
    live.on_acknowledged(0, 4, sha256(log[3]).digest())
    assert live.checkpoint_position == CheckpointPosition(3, 3, sha256(log[3]).digest())
    assert live.fully_acknowledged


async def test_a_directory_is_opened_again_after_the_write_in_progress(path: Path) -> None:
    states = opened(path)
    states.changed(aggregate(1), None)
    for _ in states.begin_checkpoint():
        continue
    # The partition is lost and comes back.
    states.close()
    waiting = asyncio.create_task(until_closed(path))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    states.finish_checkpoint(CheckpointPosition(0, 0))
    states.end_checkpoint()
    async with asyncio.timeout(5):
        await waiting
    again = opened(path)
    assert again.get("k00001") is not None
    again.close()


async def test_the_wait_for_a_directory_that_stays_open_times_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CLOSE_S", 0.05)
    states = opened(path)
    with pytest.raises(TimeoutError):
        await until_closed(path)
    states.close()


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    database._open.clear()
