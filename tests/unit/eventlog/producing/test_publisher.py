"""The publisher batches the records of many callers by partition, and returns a position or an error for each."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownProducerId,
)

from eventlog.core.errors import BrokerUnavailable
from eventlog.core.partitioner import partition_of
from eventlog.producing import publisher as module
from eventlog.producing.publisher import Publisher
from eventlog.producing.record_accumulator import LINGER_S, Position, Record

#: A key of each of three partitions.
KEYS = {partition_of(f"k{number}", 3): f"k{number}" for number in range(20)}


class Metadata(NamedTuple):
    offset: int
    timestamp: int


class Batch:
    """Holds at most three records, each of at most 100 bytes."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.closed = False

    def append(self, *, timestamp: None, key: bytes, value: bytes, headers: Any) -> object | None:
        # Like aiokafka's, a batch that has refused a record accepts no further one.
        if headers == [("h", None)]:
            self.values.append(b"a part of the record")
            raise TypeError("a header without bytes")
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
        self.stopped = 0
        self._ends: dict[int, int] = {}
        self.sender_ends = asyncio.Event()
        self._sender = SimpleNamespace(sender_task=asyncio.get_running_loop().create_task(self.sender_ends.wait()))
        self.client = SimpleNamespace(close=self._closed)

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.stopped += 1

    async def _closed(self) -> None: ...

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
async def publisher(monkeypatch: pytest.MonkeyPatch) -> Publisher:
    made = Publisher("127.0.0.1:1", client_id="test")
    monkeypatch.setattr(module, "AIOKafkaProducer", lambda **_: Producer())
    monkeypatch.setattr(module, "RESTART_INTERVAL_S", 0)
    await made.start(3)
    return made


def records(count: int) -> list[Record]:
    return [Record(f"k{number}", f"v{number}".encode(), [("h", b"x")]) for number in range(count)]


async def test_records_keep_their_order_within_a_partition_and_get_their_positions(publisher: Publisher) -> None:
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


async def test_a_partition_that_fails_or_does_not_respond_fails_only_its_own_records(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(**_: Any) -> Producer:
        made = Producer()
        made.fails.add(0)
        made.silent.add(1)
        return made

    monkeypatch.setattr(module, "AIOKafkaProducer", failing)
    publisher._producer = failing()
    made = records(30)
    found = await publisher.publish_all("t", made, timeout_s=0.05)
    for record, one in zip(made, found, strict=True):
        assert isinstance(one, Position) == (partition_of(record.key, 3) == 2)


async def test_a_record_larger_than_a_batch_raises_value_error(publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="larger than t takes"):
        await publisher.publish_all("t", [Record("k", b"x" * 101, [])])


async def test_before_the_start_the_broker_is_unavailable(publisher: Publisher) -> None:
    publisher.partitions = 0
    (found,) = await publisher.publish_all("t", records(1))
    assert isinstance(found, BrokerUnavailable)


async def test_concurrent_calls_share_one_batch_per_partition(publisher: Publisher) -> None:
    producer: Any = publisher._producer
    calls = [publisher.publish("t", Record(KEYS[number % 3], f"{number}".encode(), [])) for number in range(9)]
    found = await asyncio.gather(*calls)
    sent = dict(producer.sent)
    assert len(producer.sent) == 3
    for number, position in enumerate(found):
        assert sent[position.partition][position.offset - 100 * position.partition] == f"{number}".encode()


async def test_records_added_while_a_batch_is_in_flight_go_in_the_next_batch_and_do_not_delay_other_partitions(
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


async def test_records_that_waited_for_a_batch_in_flight_do_not_linger_again(
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


async def test_the_waiting_record_of_a_cancelled_call_is_not_written(
    publisher: Publisher,
) -> None:
    producer: Any = publisher._producer
    gone = asyncio.create_task(publisher.publish("t", Record("k", b"gone", [])))
    stays = asyncio.create_task(publisher.publish("t", Record("k", b"stays", [])))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    assert [value for _, values in producer.sent for value in values] == [b"stays"]


async def test_a_call_without_time_left_fails_at_once_and_writes_nothing(publisher: Publisher) -> None:
    producer: Any = publisher._producer
    with pytest.raises(BrokerUnavailable, match="in time"):
        await publisher.publish("t", Record("k", b"v", []), timeout_s=0)
    await publisher.publish("t", Record("k", b"later", []))
    assert [values for _, values in producer.sent] == [[b"later"]]


async def test_records_of_timed_out_calls_do_not_accumulate_while_the_broker_is_unavailable(
    publisher: Publisher,
) -> None:
    publisher._producer.silent.update(range(3))
    for _ in range(5):
        found = await asyncio.gather(
            *(publisher.publish("t", Record("k", b"v", []), timeout_s=0.01) for _ in range(20)), return_exceptions=True
        )
        assert all(isinstance(one, BrokerUnavailable) for one in found)
    (queue,) = publisher._accumulators["t"]._queues.values()
    assert len(queue.waiting) <= 20


async def test_a_record_that_is_too_large_fails_only_its_own_call(publisher: Publisher) -> None:
    large = b"x" * 101
    calls = [publisher.publish("t", Record("k", value, [])) for value in (large, b"a", large, b"b")]
    first, a, second, b = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, ValueError)
    assert isinstance(second, ValueError)
    assert isinstance(a, Position)
    assert isinstance(b, Position)


async def test_a_record_that_the_broker_rejects_as_too_large_raises_value_error(
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


async def test_a_record_that_can_not_be_encoded_fails_only_its_own_call(
    publisher: Publisher,
) -> None:
    odd: Any = [("h", None)]
    headers: list[list[tuple[str, bytes]]] = [[], odd, [], odd]
    calls = [publisher.publish("t", Record("k", b"v", one)) for one in headers]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in found] == [Position, TypeError, Position, TypeError]
    assert [values for _, values in publisher._producer.sent] == [[b"v", b"v"]]
    await publisher.publish("t", Record("k", b"v", []))


async def test_a_full_producer_raises_broker_unavailable_and_a_defect_raises_its_own_error(
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


async def test_stop_sends_waiting_records_first(publisher: Publisher) -> None:
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


class OutOfSequence(Producer):
    """Like aiokafka's, a failed batch uses up its sequence numbers, and the broker rejects all later batches."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        if partition not in self.fails:
            return await super().send_batch(batch, topic, partition=partition)
        done: asyncio.Future[Metadata] = asyncio.get_running_loop().create_future()
        done.set_exception(self.error)
        self.error = OutOfOrderSequenceNumber()
        return done


@pytest.mark.parametrize(
    "error",
    [
        LeaderNotAvailableError(),
        OutOfOrderSequenceNumber(),
        ProducerFenced(),
        InvalidProducerEpoch(),
        UnknownProducerId(),
        MessageSizeTooLargeError(),
    ],
    ids=repr,
)
async def test_a_producer_that_failed_a_batch_is_replaced(publisher: Publisher, error: KafkaError) -> None:
    failed = OutOfSequence(error)
    failed.fails.add(1)
    publisher._producer = failed
    with pytest.raises((BrokerUnavailable, ValueError)):
        await publisher.publish("t", Record(KEYS[1], b"lost", []))
    assert not publisher.ready
    assert (await publisher.publish("t", Record(KEYS[1], b"v", []))).partition == 1
    assert publisher.ready
    assert publisher.replaced == 1
    assert publisher._producer is not failed
    assert failed.stopped == 1


async def test_a_replaced_producer_still_writes_its_batches_of_other_partitions(publisher: Publisher) -> None:
    old: Any = publisher._producer
    send = old.send_batch
    slow: asyncio.Future[Metadata] = asyncio.get_running_loop().create_future()

    async def one_is_slow(batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        done: asyncio.Future[Metadata] = await send(batch, topic, partition=partition)
        return slow if partition == 2 else done

    old.send_batch = one_is_slow
    old.fails.add(1)
    old.stop = lambda: asyncio.wait([slow])
    other = asyncio.create_task(publisher.publish("t", Record(KEYS[2], b"slow", [])))
    with pytest.raises(BrokerUnavailable):
        await publisher.publish("t", Record(KEYS[1], b"lost", []))
    waits = asyncio.create_task(publisher.publish("t", Record(KEYS[2], b"behind it", [])))
    assert (await publisher.publish("t", Record(KEYS[1], b"v", []))).partition == 1
    assert not waits.done()
    slow.set_result(Metadata(200, 5))
    assert (await other).offset == 200
    # The new producer writes it, after the earlier record of the partition.
    assert (await waits).offset == 200
    assert publisher._producer is not old


async def test_a_replaced_producer_that_does_not_stop_delays_its_partitions_only_until_the_timeout(
    publisher: Publisher,
) -> None:
    publisher._timeout_s = 0.05
    old: Any = publisher._producer
    old.fails.add(1)
    old.silent.add(2)
    old.stop = asyncio.Event().wait
    pending = asyncio.create_task(publisher.publish("t", Record(KEYS[2], b"pending", []), timeout_s=5))
    with pytest.raises(BrokerUnavailable):
        await publisher.publish("t", Record(KEYS[1], b"lost", []))
    with pytest.raises(BrokerUnavailable):
        await pending
    assert (await publisher.publish("t", Record(KEYS[2], b"v", []), timeout_s=5)).partition == 2


async def test_a_producer_whose_sender_task_ends_is_replaced(publisher: Publisher) -> None:
    old: Any = publisher._producer
    old.silent.update(range(3))
    pending = asyncio.create_task(publisher.publish("t", Record("k", b"pending", [])))
    while not old.sent:
        await turns()
    old.sender_ends.set()
    with pytest.raises(BrokerUnavailable):
        await pending
    await publisher.publish("t", Record("k", b"v", []))
    assert publisher._producer is not old


async def test_a_producer_that_rejects_every_batch_is_replaced_but_a_full_one_is_not(
    publisher: Publisher,
) -> None:
    old: Any = publisher._producer
    errors: list[BaseException] = [KafkaTimeoutError(), KafkaError("Unexpected error during batch delivery")]

    async def refuse(batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        raise errors.pop(0)

    old.send_batch = refuse
    for replaced in (0, 1):
        with pytest.raises(BrokerUnavailable):
            await publisher.publish("t", Record("k", b"v", []))
        assert publisher.replaced == replaced
    await publisher.publish("t", Record("k", b"v", []))


async def test_a_cancelled_error_from_inside_the_producer_does_not_end_the_publisher(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    old: Any = publisher._producer
    starts: list[BaseException] = [asyncio.CancelledError()]

    async def cancelled(batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        raise asyncio.CancelledError

    class Odd(Producer):
        async def start(self) -> None:
            if starts:
                raise starts.pop()

    monkeypatch.setattr(module, "AIOKafkaProducer", lambda **_: Odd())
    old.send_batch = cancelled
    with pytest.raises(BrokerUnavailable, match="cancelled"):
        await publisher.publish("t", Record("k", b"v", []))
    await publisher.publish("t", Record("k", b"v", []))
    assert not starts
    assert publisher.replaced == 1


async def test_calls_time_out_while_there_is_no_producer_and_succeed_after_its_start(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = True

    class Late(Producer):
        async def start(self) -> None:
            if away:
                raise KafkaConnectionError("away")

    monkeypatch.setattr(module, "AIOKafkaProducer", lambda **_: Late())
    publisher._producer.fails.add(1)
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            await publisher.publish("t", Record(KEYS[1], b"lost", []), timeout_s=0.05)
        assert not publisher.ready
    away = False
    await publisher.publish("t", Record(KEYS[1], b"v", []))
    assert publisher.ready
    assert [values for _, values in publisher._producer.sent] == [[b"v"]]


async def test_stop_does_not_wait_for_a_producer_that_can_not_start(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Never(Producer):
        async def start(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(module, "AIOKafkaProducer", lambda **_: Never())
    publisher._producer.fails.add(1)
    with pytest.raises(BrokerUnavailable):
        await publisher.publish("t", Record(KEYS[1], b"lost", []))
    waits = asyncio.create_task(publisher.publish("t", Record(KEYS[2], b"v", [])))
    await turns()
    async with asyncio.timeout(5):
        await publisher.stop()
    with pytest.raises(BrokerUnavailable):
        await waits


async def test_an_unknown_offset_raises_broker_unavailable(publisher: Publisher) -> None:
    publisher._producer._ends[1] = -1
    with pytest.raises(BrokerUnavailable, match="unknown offset"):
        await publisher.publish("t", Record(KEYS[1], b"v", []))


def sent_to(producer: Producer, partition: int) -> list[list[bytes]]:
    return [values for one, values in producer.sent if one == partition]


async def turns() -> None:
    """Runs all tasks that don't wait for the clock."""
    for _ in range(10):
        await asyncio.sleep(0)
