"""A batch that is dropped is fetched again; on a quiet partition no later batch would reveal the gap."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from eventlog.faust.consumer import BatchConsumer
from tests.unit.eventlog.support import bare_consumer

INPUT = TP("inbox", 0)


class FakeThread:
    def __init__(self) -> None:
        self.seeks: list[tuple[TP, int]] = []

    def seek(self, tp: TP, offset: int) -> None:
        self.seeks.append((tp, offset))


@pytest.fixture
def consumer() -> Any:
    event = SimpleNamespace(set=lambda: None, clear=lambda: None)
    return bare_consumer(
        BatchConsumer,
        can_resume_flow=event,
        suspend_flow=event,
        _thread=FakeThread(),
        _active_partitions={INPUT},
        _assigned={INPUT},
        _assigned_epoch=1,
        _sought_epoch=0,
        _resumed_epoch=0,
    )


def batch(*offsets: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(offset=offset) for offset in offsets]


async def test_a_batch_from_before_the_start_was_known_is_fetched_again(consumer: Any) -> None:
    await consumer._deliver({INPUT: batch(7, 8)}, epoch=1)
    assert consumer._thread.seeks == []
    consumer._armed = {INPUT: 7}
    consumer.resume_flow()
    assert consumer._thread.seeks == [(INPUT, 7)]


async def test_a_batch_of_a_fetch_from_before_a_rebalance_is_fetched_again(consumer: Any) -> None:
    consumer._next = {INPUT: 7}
    await consumer._deliver({INPUT: batch(7, 8)}, epoch=0)
    assert consumer._thread.seeks == [(INPUT, 7)]


async def test_a_batch_that_came_while_the_flow_was_suspended_is_fetched_again_once(consumer: Any) -> None:
    consumer._next = {INPUT: 7}
    consumer.flow_active = False
    await consumer._deliver({INPUT: batch(7, 8)}, epoch=1)
    assert consumer._thread.seeks == []
    consumer.resume_flow()
    consumer.resume_flow()
    assert consumer._thread.seeks == [(INPUT, 7)]


def test_a_new_assignment_clears_the_missed_partitions(consumer: Any) -> None:
    consumer._missed = {INPUT}
    consumer._new_epoch()
    consumer.resume_flow()
    assert consumer._thread.seeks == []
