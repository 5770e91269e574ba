"""Further rules of the transport: failed commits keep acknowledgements, no start loses records, epochs."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, UnknownTopicOrPartitionError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from eventlog.consuming.start_policy import at_beginning, at_committed
from eventlog.faust.consumer import BatchConsumer
from eventlog.faust.consumer_thread import BatchConsumerThread
from tests.unit.eventlog.support import bare_consumer as consumer
from tests.unit.eventlog.support import run_python

TP0 = TP("inbox", 0)


async def test_a_failed_commit_keeps_the_acknowledgements() -> None:
    stock = consumer(driver.Consumer)
    stock._acked[TP0] = [0, 1, 2]
    assert stock._new_offset(TP0) == 3
    assert stock._acked[TP0] == [], "the defect is gone: stock Faust keeps the acknowledgements"

    async def refuse(offsets: Any) -> bool:
        return False

    ours = consumer(BatchConsumer, epoch=1, assignment=lambda: {TP0}, _commit=refuse)
    ours._acked[TP0] = [2]
    assert not await ours._commit_offsets({TP0: 3})
    assert ours._new_offset(TP0) == 3


async def test_a_commit_without_a_broker_does_not_crash_the_consumer() -> None:
    crashed: list[BaseException] = []

    async def crash(error: BaseException) -> None:
        crashed.append(error)

    class Away:
        async def commit(self, offsets: Any) -> None:
            raise KafkaConnectionError("gone")

    fakes = {"_ensure_consumer": Away, "assignment": lambda: {TP0}, "crash": crash}
    stock = SimpleNamespace(**fakes, log=SimpleNamespace(exception=lambda *a: None), tp_last_committed_at={})
    assert await driver.AIOKafkaConsumerThread._commit(stock, {TP0: 3}) is False
    assert len(crashed) == 1, "the defect is gone"
    ours: Any = SimpleNamespace(**fakes)
    assert await BatchConsumerThread._commit(ours, {TP0: 3}) is False
    assert len(crashed) == 1


def test_a_non_retriable_error_at_a_commit_ends_the_process() -> None:
    assert not UnknownTopicOrPartitionError.retriable or KafkaConnectionError.retriable
    done = run_python("""
        import asyncio
        from types import SimpleNamespace
        from aiokafka.errors import GroupAuthorizationFailedError
        from eventlog.faust.consumer_thread import BatchConsumerThread
        class Refusing:
            async def commit(self, offsets): raise GroupAuthorizationFailedError("no")
        fake = SimpleNamespace(_ensure_consumer=Refusing, assignment=set)
        asyncio.run(BatchConsumerThread._commit(fake, {}))
    """)
    assert done.returncode == 70
    assert "offsets can't be committed" in done.stderr


@pytest.mark.parametrize(
    ("committed", "begin", "end", "message"),
    [
        (None, 0, 10, "no committed offset"),
        (3, 5, 10, "trimmed before it was read"),
        (11, 0, 10, "ends before what was read"),
    ],
)
def test_an_offset_that_would_lose_records_ends_the_process(
    committed: int | None, begin: int, end: int, message: str
) -> None:
    done = run_python(f"""
        from faust.types import TP
        from eventlog.consuming.start_policy import at_committed
        at_committed(TP("inbox", 0), {committed}, {begin}, {end})
    """)
    assert done.returncode == 70
    assert message in done.stderr


def test_reading_starts_at_a_valid_offset() -> None:
    assert at_committed(TP0, 7, 5, 10) == 7
    assert at_beginning(TP0, 7, 5, 10) == 5


async def test_a_batch_is_delivered_only_in_its_epoch_and_only_if_it_continues_the_previous_one() -> None:
    delivered: list[Any] = []

    async def take(message: Any) -> None:
        delivered.append(message)

    async def first(*waiting: Any) -> None:  # Service.wait_first, in sequence
        for one in waiting:
            if getattr(one, "cr_code", None) is not None and one.cr_code.co_name == "take":
                await one
            else:
                one.close()

    sought: list[tuple[TP, int]] = []
    ours = consumer(
        BatchConsumer,
        epoch=3,
        callback=take,
        wait_first=first,
        suspend_flow=asyncio.Event(),
        _next={TP0: 5},
        _active_partitions={TP0},
        _thread=SimpleNamespace(seek=lambda tp, offset: sought.append((tp, offset))),
        _to_message=lambda tp, record: SimpleNamespace(tp=tp, offset=record.offset),
    )

    def batch(*offsets: int) -> dict[TP, list[Any]]:
        return {TP0: [SimpleNamespace(offset=offset, timestamp=0) for offset in offsets]}

    await ours._deliver(batch(5, 6), epoch=2)
    # Dropped, and fetched again.
    assert (delivered, sought) == ([], [(TP0, 5)])
    await ours._deliver(batch(8, 9), epoch=3)
    assert (delivered, sought) == ([], [(TP0, 5), (TP0, 5)])
    await ours._deliver(batch(4, 5, 6), epoch=3)
    assert [r.offset for r in delivered[0].value] == [5, 6]
    assert delivered[0].checksum == 3
    assert ours._next[TP0] == 7
