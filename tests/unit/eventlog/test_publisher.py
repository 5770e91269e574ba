"""Records of many callers: whole batches by partition; each is told where it stands, or that it was not written."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, MessageSizeTooLargeError

from eventlog.errors import BrokerUnavailable
from eventlog.gathering import LINGER_S, Position, Record
from eventlog.publisher import Publisher
from eventlog.topics import partition_of

#: A key of each of three partitions.
KEYS = {partition_of(f"k{number}", 3): f"k{number}" for number in range(20)}


class Metadata(NamedTuple):
    offset: int
    timestamp: int


class Batch:
    """Holds three records at most, and none of more than 100 bytes."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.closed = False

    def append(self, *, timestamp: None, key: bytes, value: bytes, headers: Any) -> object | None:
        # As aiokafka's: what has refused one record takes no more.
        if self.closed or len(self.values) == 3 or len(value) > 100:
            self.closed = True
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
async def publisher() -> Publisher:
    made = Publisher("127.0.0.1:1", client_id="test")
    made.partitions = 3
    made._producer = Producer()
    return made


def records(count: int) -> list[Record]:
    return [Record(f"k{number}", f"v{number}".encode(), [("h", b"x")]) for number in range(count)]


async def test_records_keep_their_order_within_a_partition_and_each_knows_its_place(publisher: Publisher) -> None:
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


async def test_one_partition_that_fails_or_is_silent_fails_its_records_only(publisher: Publisher) -> None:
    publisher._producer.fails.add(0)
    publisher._producer.silent.add(1)
    made = records(30)
    found = await publisher.publish_all("t", made, timeout_s=0.05)
    for record, one in zip(made, found, strict=True):
        assert isinstance(one, Position) == (partition_of(record.key, 3) == 2)


async def test_a_record_that_fits_into_no_batch_is_a_defect(publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="larger than t takes"):
        await publisher.publish_all("t", [Record("k", b"x" * 101, [])])


async def test_before_the_broker_was_met_nothing_is_acknowledged(publisher: Publisher) -> None:
    publisher.partitions = 0
    (found,) = await publisher.publish_all("t", records(1))
    assert isinstance(found, BrokerUnavailable)


async def test_what_many_callers_say_at_once_goes_in_one_batch_of_each_partition(publisher: Publisher) -> None:
    producer: Any = publisher._producer
    calls = [publisher.publish("t", Record(KEYS[number % 3], f"{number}".encode(), [])) for number in range(9)]
    found = await asyncio.gather(*calls)
    sent = dict(producer.sent)
    assert len(producer.sent) == 3
    for number, position in enumerate(found):
        assert sent[position.partition][position.offset - 100 * position.partition] == f"{number}".encode()


async def test_what_comes_while_a_batch_is_under_way_goes_in_the_next_and_holds_up_no_other_partition(
    publisher: Publisher,
) -> None:
    producer: Any = publisher._producer
    send = producer.send_batch
    slow: asyncio.Future[Metadata] = asyncio.get_running_loop().create_future()
    sent = asyncio.Event()

    async def first_is_slow(batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        done: asyncio.Future[Metadata] = await send(batch, topic, partition=partition)
        sent.set()
        return done if partition != 1 or len(sent_to(producer, 1)) > 1 else slow

    producer.send_batch = first_is_slow
    first = asyncio.create_task(publisher.publish("t", Record(KEYS[1], b"a", [])))
    await sent.wait()
    later = [asyncio.create_task(publisher.publish("t", Record(KEYS[1], value, []))) for value in (b"b", b"c")]
    assert (await publisher.publish("t", Record(KEYS[2], b"x", []))).partition == 2
    assert sent_to(producer, 1) == [[b"a"]]
    slow.set_result(Metadata(100, 5))
    assert (await first).offset == 100
    assert [(await one).offset for one in later] == [101, 102]
    assert sent_to(producer, 1) == [[b"a"], [b"b", b"c"]]


async def test_what_has_waited_for_a_batch_under_way_does_not_linger_once_more(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    producer: Any = publisher._producer
    send = producer.send_batch
    slow: asyncio.Future[Metadata] = loop.create_future()

    async def first_is_slow(batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        done: asyncio.Future[Metadata] = await send(batch, topic, partition=partition)
        return slow if len(producer.sent) == 1 else done

    producer.send_batch = first_is_slow
    calls = [asyncio.create_task(publisher.publish("t", Record("k", b"a", [])))]
    await turns()
    assert not producer.sent
    now += LINGER_S
    await turns()
    calls.append(asyncio.create_task(publisher.publish("t", Record("k", b"b", []))))
    await turns()
    now += LINGER_S
    slow.set_result(Metadata(0, 5))
    await turns()
    assert [values for _, values in producer.sent] == [[b"a"], [b"b"]]
    await asyncio.gather(*calls)


async def test_who_gives_up_while_a_record_still_waits_has_not_written_it_and_fails_nobody_else(
    publisher: Publisher,
) -> None:
    producer: Any = publisher._producer
    gone = asyncio.create_task(publisher.publish("t", Record("k", b"gone", [])))
    stays = asyncio.create_task(publisher.publish("t", Record("k", b"stays", [])))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    assert [value for _, values in producer.sent for value in values] == [b"stays"]


async def test_who_has_no_time_left_is_told_at_once_and_has_written_nothing(publisher: Publisher) -> None:
    producer: Any = publisher._producer
    with pytest.raises(BrokerUnavailable, match="in time"):
        await publisher.publish("t", Record("k", b"v", []), timeout_s=0)
    await publisher.publish("t", Record("k", b"later", []))
    assert [values for _, values in producer.sent] == [[b"later"]]


async def test_what_callers_leave_behind_while_the_broker_is_away_does_not_pile_up(publisher: Publisher) -> None:
    publisher._producer.silent.update(range(3))
    for _ in range(5):
        found = await asyncio.gather(
            *(publisher.publish("t", Record("k", b"v", []), timeout_s=0.01) for _ in range(20)), return_exceptions=True
        )
        assert all(isinstance(one, BrokerUnavailable) for one in found)
    (lane,) = publisher._gatherings["t"]._lanes.values()
    assert len(lane.waiting) <= 20


async def test_a_record_that_is_too_large_fails_alone(publisher: Publisher) -> None:
    large = b"x" * 101
    calls = [publisher.publish("t", Record("k", value, [])) for value in (large, b"a", large, b"b")]
    first, a, second, b = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, ValueError)
    assert isinstance(second, ValueError)
    assert isinstance(a, Position)
    assert isinstance(b, Position)


async def test_a_record_that_the_broker_finds_too_large_is_a_defect_and_no_broker_that_is_away(
    publisher: Publisher,
) -> None:
    async def refuse(batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        done: asyncio.Future[Metadata] = asyncio.get_running_loop().create_future()
        done.set_exception(MessageSizeTooLargeError())
        return done

    producer: Any = publisher._producer
    producer.send_batch = refuse
    with pytest.raises(ValueError, match="larger than t takes"):
        await publisher.publish("t", Record("k", b"v", []))


async def test_a_producer_that_takes_nothing_is_an_unavailable_broker_but_a_defect_is_not(
    publisher: Publisher,
) -> None:
    producer: Any = publisher._producer
    error: Exception = KafkaTimeoutError()

    async def full(batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        raise error

    producer.send_batch = full
    found = await publisher.publish_all("t", records(3))
    assert all(isinstance(one, BrokerUnavailable) for one in found)
    error = AssertionError("no such partition")
    with pytest.raises(AssertionError, match="no such partition"):
        await publisher.publish("t", Record("k", b"v", []))


async def test_to_stop_sends_what_waits_first(publisher: Publisher) -> None:
    producer: Any = publisher._producer
    stopped: list[int] = []

    async def stop() -> None:
        stopped.append(sum(len(values) for _, values in producer.sent))

    producer.stop = stop
    calls = asyncio.gather(*(publisher.publish("t", Record("k", b"v", [])) for _ in range(7)))
    await asyncio.sleep(0)
    await publisher.stop()
    assert stopped == [7]
    assert all(position.partition == partition_of("k", 3) for position in await calls)


def sent_to(producer: Producer, partition: int) -> list[list[bytes]]:
    return [values for one, values in producer.sent if one == partition]


async def turns() -> None:
    """Lets everybody do what does not wait for the clock."""
    for _ in range(10):
        await asyncio.sleep(0)
