"""Back-pressure: a limit to the batches in flight, above which the consumer does not fetch a partition."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.consumer import ThreadDelegateConsumer
from faust.types import TP

from eventlog.faust import consumer as kernel
from eventlog.faust.consumer import MAX_BATCHES_IN_FLIGHT, BatchConsumer
from tests.unit.eventlog.support import bare_consumer

A, B, LOG = TP("inbox", 0), TP("inbox", 1), TP("log", 0)


class Made:
    """A consumer that records its fetches, its seeks and its deliveries."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fetches: list[tuple[set[TP], float]] = []
        self.sought: list[tuple[TP, int]] = []
        self.delivered: list[Any] = []

        async def getmany(consumer: Any, wanted: set[TP], seconds: float) -> dict[TP, Any]:
            self.fetches.append((wanted, seconds))
            return {}

        async def wait_first(delivery: Any, suspended: Any) -> None:
            suspended.close()
            await delivery

        async def callback(message: Any) -> None:
            self.delivered.append(message)

        monkeypatch.setattr(ThreadDelegateConsumer, "_getmany", getmany)
        self.consumer = bare_consumer(
            BatchConsumer,
            callback=callback,
            wait_first=wait_first,
            suspend_flow=asyncio.Event(),
            _next={A: 0, B: 0, LOG: 0},
            _active_partitions={A, B, LOG},
            _unacked_messages=set(),
            _waiting_for_ack=None,
            _is_changelog_tp=lambda tp: tp == LOG,
            _thread=SimpleNamespace(seek=lambda tp, offset: self.sought.append((tp, offset))),
            _to_message=lambda tp, record: _Message(tp, record.offset),
        )

    async def deliver(self, tp: TP, *offsets: int) -> None:
        records = [SimpleNamespace(offset=offset, timestamp=0) for offset in offsets]
        await self.consumer._deliver({tp: records}, epoch=self.consumer.epoch)

    async def fetched(self) -> set[TP]:
        await self.consumer._getmany({A, B, LOG}, 1.0)
        return self.fetches[-1][0]


class _Message:
    def __init__(self, tp: TP, offset: int) -> None:
        self.tp, self.offset, self.acked = tp, offset, False
        self.checksum: int = 0
        self.value: Any = None


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(monkeypatch)


async def test_a_partition_at_its_limit_is_not_fetched_until_a_batch_of_it_completes(made: Made) -> None:
    assert await made.fetched() == {A, B, LOG}
    for offset in range(MAX_BATCHES_IN_FLIGHT):
        await made.deliver(A, offset)
        await made.deliver(LOG, offset)
    assert await made.fetched() == {B, LOG}
    # A partition with capacity again does not wait behind a long poll of the others.
    assert made.fetches[-1][1] <= kernel.SHORT_POLL_S
    made.consumer.drop_batch(made.delivered[0])
    assert await made.fetched() == {A, B, LOG}
    assert made.fetches[-1][1] == 1.0


async def test_each_partition_may_have_one_batch_above_the_limit_of_records(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "MAX_RECORDS_IN_FLIGHT", 2)
    await made.deliver(A, 0)
    await made.deliver(A, 1)
    assert await made.fetched() == {B, LOG}
    await made.deliver(B, 0)
    assert await made.fetched() == {LOG}
    # One of three records is left in flight, so there is capacity for one more.
    made.consumer.drop_batch(made.delivered[0])
    made.consumer.drop_batch(made.delivered[1])
    assert await made.fetched() == {A, B, LOG}


async def test_a_fetch_without_capacity_ends_as_soon_as_a_batch_completes(made: Made) -> None:
    for offset in range(MAX_BATCHES_IN_FLIGHT):
        await made.deliver(A, offset)
    fetching = asyncio.create_task(made.consumer._getmany({A}, 30.0))
    await asyncio.sleep(0)
    assert not fetching.done()
    made.consumer.drop_batch(made.delivered[0])
    async with asyncio.timeout(5):
        assert await fetching == {}
    assert made.fetches == []


async def test_a_new_epoch_begins_with_no_batches_in_flight_and_ignores_completions_of_old_ones(made: Made) -> None:
    for offset in range(MAX_BATCHES_IN_FLIGHT):
        await made.deliver(A, offset)
    made.consumer._new_epoch()
    assert await made.fetched() == {A, B, LOG}
    made.consumer._next = {A: 0}
    await made.deliver(A, 0)
    made.consumer.drop_batch(made.delivered[0])
    assert made.consumer._in_flight == {A: 1}


async def test_a_held_partition_is_fetched_again_from_the_offset_of_its_release(made: Made) -> None:
    await made.deliver(A, 0, 1)
    made.consumer.hold({A, B})
    assert await made.fetched() == {LOG}
    # From a fetch that was in progress.
    await made.deliver(A, 2, 3)
    assert [message.value[0].offset for message in made.delivered] == [0]
    assert made.sought == []
    made.consumer.release({A: 1, B: None})
    assert made.sought == [(A, 1), (B, 0)]
    assert await made.fetched() == {A, B, LOG}
    await made.deliver(A, 1, 2, 3)
    assert [message.value[0].offset for message in made.delivered] == [0, 1]


async def test_the_fetch_gets_a_copy_of_the_partitions(made: Made) -> None:
    active = {A, B}
    await made.consumer._getmany(active, 1.0)
    assert made.fetches[-1][0] is not active


async def test_the_input_flows_once_an_assignment_is_sought_and_resumed(made: Made) -> None:
    consumer = made.consumer
    consumer.__dict__.update(_assigned=set(), _assigned_epoch=0, _sought_epoch=0, _resumed_epoch=0)
    consumer.can_resume_flow = asyncio.Event()
    assert (consumer.assigned, consumer.resumed) == (False, False)
    consumer._assigned, consumer._assigned_epoch = {A}, 1
    # A recovery resumes the flow for changelogs before it seeks the input.
    consumer.resume_flow()
    assert (consumer.assigned, consumer.resumed) == (True, False)
    consumer._sought_epoch = 1
    consumer.resume_flow()
    assert consumer.resumed
    consumer._new_epoch()
    assert (consumer.assigned, consumer.resumed) == (False, False)
    # An empty assignment needs no seek.
    consumer._assigned, consumer._assigned_epoch = set(), 2
    consumer.resume_flow()
    assert consumer.resumed
