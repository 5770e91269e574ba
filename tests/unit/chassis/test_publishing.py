"""Many records at once: whole batches by partition; each record is told where it stands, or that it was not written."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from chassis.publishing import BatchPublisher, Record
from eventlog.errors import BrokerUnavailable
from eventlog.publisher import Position
from eventlog.topics import partition_of


class Metadata(NamedTuple):
    offset: int
    timestamp: int


class Batch:
    """Holds three records at most, and none of more than 100 bytes."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.closed = False

    def append(self, *, timestamp: None, key: bytes, value: bytes, headers: Any) -> object | None:
        assert not self.closed
        if len(self.values) == 3 or len(value) > 100:
            return None
        self.values.append(value)
        return object()

    def close(self) -> None:
        self.closed = True


class Producer:
    def __init__(self) -> None:
        self.sent: list[tuple[int, list[bytes]]] = []
        self.fails: set[int] = set()
        self.silent: set[int] = set()
        self._ends: dict[int, int] = {}

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        assert batch.closed
        self.sent.append((partition, batch.values))
        done: asyncio.Future[Metadata] = asyncio.get_running_loop().create_future()
        if partition in self.fails:
            done.set_exception(KafkaConnectionError("gone"))
        elif partition not in self.silent:
            first = self._ends.get(partition, 100 * partition)
            self._ends[partition] = first + len(batch.values)
            done.set_result(Metadata(first, 5))
        return done


@pytest.fixture
async def publisher() -> BatchPublisher:
    made = BatchPublisher("127.0.0.1:1", client_id="test")
    made.partitions = 3
    made._producer = Producer()
    return made


def records(count: int) -> list[Record]:
    return [Record(f"k{number}", f"v{number}".encode(), [("h", b"x")]) for number in range(count)]


async def test_records_keep_their_order_within_a_partition_and_each_knows_its_place(publisher: BatchPublisher) -> None:
    made = records(30)
    found = await publisher.publish_all("t", made)
    written: dict[tuple[int, int], bytes] = {}
    ends: dict[int, int] = {}
    for partition, values in publisher._producer.sent:
        for value in values:
            offset = ends.setdefault(partition, 100 * partition)
            written[partition, offset] = value
            ends[partition] += 1
    for record, position in zip(made, found, strict=True):
        assert isinstance(position, Position)
        assert position.partition == partition_of(record.key, 3)
        assert written[position.partition, position.offset] == record.value
    for partition in range(3):
        offsets = [one.offset for one in found if isinstance(one, Position) and one.partition == partition]
        assert offsets == sorted(offsets)


async def test_one_partition_that_fails_or_is_silent_fails_its_records_only(publisher: BatchPublisher) -> None:
    publisher._producer.fails.add(0)
    publisher._producer.silent.add(1)
    made = records(30)
    found = await publisher.publish_all("t", made, timeout_s=0.05)
    for record, one in zip(made, found, strict=True):
        assert isinstance(one, Position) == (partition_of(record.key, 3) == 2)


async def test_a_record_that_fits_into_no_batch_is_a_defect(publisher: BatchPublisher) -> None:
    with pytest.raises(ValueError, match="larger than t takes"):
        await publisher.publish_all("t", [Record("k", b"x" * 101, [])])


async def test_before_the_broker_was_met_nothing_is_acknowledged(publisher: BatchPublisher) -> None:
    publisher.partitions = 0
    (found,) = await publisher.publish_all("t", records(1))
    assert isinstance(found, BrokerUnavailable)


async def test_a_batch_that_found_no_room_is_handed_over_later_and_only_one_of_a_partition_waits(
    publisher: BatchPublisher,
) -> None:
    producer: Any = publisher._producer
    send, full = producer.send_batch, 5
    waiting: dict[int, int] = {}

    async def without_room(batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        nonlocal full
        waiting[partition] = waiting.get(partition, 0) + 1
        assert waiting[partition] == 1
        await asyncio.sleep(0)
        waiting[partition] -= 1
        if full:
            full -= 1
            raise KafkaTimeoutError
        done: asyncio.Future[Metadata] = await send(batch, topic, partition=partition)
        return done

    producer.send_batch = without_room
    found = await asyncio.gather(*(publisher.publish_all("t", records(20)) for _ in range(5)))
    assert full == 0
    assert all(isinstance(one, Position) for each in found for one in each)
    assert sum(len(values) for _, values in producer.sent) == 100


async def test_a_batch_for_which_there_is_never_room_fails_when_its_time_is_over(publisher: BatchPublisher) -> None:
    async def full(batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        raise KafkaTimeoutError

    producer: Any = publisher._producer
    producer.send_batch = full
    found = await publisher.publish_all("t", records(3), timeout_s=0.02)
    assert all(isinstance(one, BrokerUnavailable) for one in found)
