"""The batch parser returns all records in order, in portions of the requested size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from eventlog.faust import record_parser
from eventlog.faust.record_parser import BATCH, BatchParser, use_batch_parser

TP = TopicPartition("t", 0)
#: The attribute of a control batch (the end of a transaction), and the places of checksum and attributes.
CONTROL = 0x20
CRC = 17
ATTRIBUTES = 21
GZIP = 1


def bytes_of(batches: Sequence[int], first: int = 0, codec: int = 0) -> bytes:
    """Record batches of the given sizes, from offset `first` on."""
    made = b""
    for count in batches:
        builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
        for at in range(count):
            builder.append(at, 1_000 + first, b"k%d" % first, b"v%d" % first, [("h", b"%d" % first)])
            first += 1
        batch = bytearray(builder.build())
        batch[0:8] = (first - count).to_bytes(8, "big")
        made += batch
    return made


class State:
    """aiokafka's state of a partition."""

    paused = False
    position = 0

    def consumed_to(self, position: int) -> None:
        self.position = position


async def fetched(data: bytes, start: int = 0, isolation: int = 0) -> tuple[Any, State]:
    """The result of a fetch through the batch parser."""
    state = State()
    state.position = start
    assignment = SimpleNamespace(active=True, state_value=lambda tp: state)
    fetcher: Any = SimpleNamespace(_records={TopicPartition("another", 0): "an error"})

    async def fetch(assignment_: Any, node_id: int, request: Any) -> bool:
        records = PartitionRecords(TP, MemoryRecords(data), [], start, None, None, True, isolation)
        fetcher._records[TP] = FetchResult(TP, assignment=assignment, partition_records=records, backoff=0)
        return True

    fetcher._proc_fetch_request = fetch
    use_batch_parser(fetcher)
    assert await fetcher._proc_fetch_request(None, 0, None) is True
    return fetcher._records[TP], state


def all_of(result: Any, most: int) -> list[list[int]]:
    """Offsets of each portion, until no records are left."""
    found = []
    while result.has_more():
        found.append([one.offset for one in result.getall(most)])
    return found


@given(
    batches=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    start=st.integers(0, 4),
    most=st.integers(1, 9),
    codec=st.sampled_from([0, GZIP]),
)
async def test_it_returns_the_same_records_as_aiokafka(batches: list[int], start: int, most: int, codec: int) -> None:
    data = bytes_of(batches, codec=codec)
    # A broker responds from the batch that holds the requested offset.
    start = min(start, batches[0] - 1)
    result, state = await fetched(data, start)
    found = all_of(result, most)
    theirs = PartitionRecords(TP, MemoryRecords(data), [], start, None, None, True, 0)
    assert [offset for part in found for offset in part] == [one.offset for one in theirs]
    assert all(len(part) <= most for part in found)
    assert state.position == sum(batches)


@pytest.mark.parametrize("count", [BATCH - 1, BATCH, BATCH + 1, 3 * BATCH])
async def test_a_large_batch_is_returned_whole(count: int) -> None:
    result, state = await fetched(bytes_of([count, 1]))
    assert all_of(result, 10_000) == [list(range(count + 1))]
    assert state.position == count + 1


@pytest.mark.parametrize("batches", [[4 * BATCH], [1] * 4 * BATCH, [BATCH - 1]])
async def test_a_large_fetch_is_parsed_with_pauses_for_other_threads(
    batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    result, _ = await fetched(bytes_of(batches))
    result.getall(10_000)
    assert len(pauses) == sum(batches) // BATCH


async def test_a_record_has_all_its_fields() -> None:
    result, _ = await fetched(bytes_of([2]))
    (first, second) = result.getall(10)
    assert (second.offset, second.timestamp, second.key, second.value) == (1, 1_001, b"k1", b"v1")
    assert (first.headers, second.headers) == ([("h", b"0")], [("h", b"1")])


async def test_control_batches_are_skipped() -> None:
    marker = bytearray(bytes_of([1], first=2))
    marker[ATTRIBUTES + 1] |= CONTROL
    marker[CRC:ATTRIBUTES] = calc_crc32c(marker[ATTRIBUTES:]).to_bytes(4, "big")
    result, state = await fetched(bytes_of([2]) + bytes(marker) + bytes_of([1], first=3), 0)
    assert all_of(result, 10) == [[0, 1, 3]]
    assert state.position == 4


async def test_a_corrupt_batch_raises_and_its_fetch_is_repeated() -> None:
    damaged = bytearray(bytes_of([2, 2, 2]))
    damaged[-1] ^= 1
    result, state = await fetched(bytes(damaged))
    with pytest.raises(CorruptRecordException):
        result.getall(10)
    assert result.getall(10) == []
    assert not result.has_more()
    assert state.position == 0


async def test_no_record_is_returned_after_the_position_has_moved() -> None:
    result, state = await fetched(bytes_of([2]))
    state.position = 7
    assert result.getall(10) == []
    assert not result.has_more()


async def test_records_of_transactions_are_left_to_aiokafka() -> None:
    result, _ = await fetched(bytes_of([2]), isolation=READ_COMMITTED)
    assert type(result._partition_records) is PartitionRecords


class Batch:
    """A stub of a batch with `count` records."""

    is_control_batch = False

    def __init__(self, first: int, count: int) -> None:
        self.next_offset = first + count
        self._offsets = range(first, first + count)

    def validate_crc(self) -> bool:
        return True

    def __iter__(self) -> Any:
        return (SimpleNamespace(offset=offset) for offset in self._offsets)


class Batches:
    """`count` batches of `each` records."""

    def __init__(self, count: int, each: int) -> None:
        self._left = [Batch(number * each, each) for number in reversed(range(count))]

    def has_next(self) -> bool:
        return bool(self._left)

    def next_batch(self) -> Batch:
        return self._left.pop()


def cpu_s(batches: int, each: int, most: int) -> float:
    """CPU time in which a fetch is read in portions of `most`; the best of three."""
    times = []
    for _ in range(3):
        records: Any = SimpleNamespace(
            _records=Batches(batches, each), _check_crcs=True, _tp=TP, next_fetch_offset=0, _isolation_level=0
        )
        reading = BatchParser(records)
        began = time.thread_time()
        count = 0
        while not reading.exhausted:
            count += len(reading.read(most))
        times.append(time.thread_time() - began)
        assert count == batches * each
    return min(times)


@pytest.mark.parametrize(("each", "most"), [(1, 1_000_000), (0, 1)], ids=["small batches", "small portions"])
def test_the_time_of_a_read_is_linear_in_its_records(each: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_parser, "PAUSE_S", 0)
    few, many = 2_000, 32_000
    times = [cpu_s(count if each else 1, each or count, most) for count in (few, many)]
    # 16 times as many records; quadratic time would be 256 times as much.
    assert times[1] < 60 * times[0]
