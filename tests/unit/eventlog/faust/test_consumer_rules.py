"""The consumer's rules R1 and R2, each on the smallest piece of code; the others need a broker."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from eventlog.core.inbox_mapper import RecordMapper
from eventlog.faust.consumer import BatchConsumer
from eventlog.faust.consumer_thread import BatchConsumerThread
from eventlog.processors.base import Connection
from eventlog.processors.sequencer import Sequencer
from eventlog.records.topic_spec import TopicSpec
from tests.unit.eventlog.support import bare_consumer

INPUT, LOG = TP("inbox", 0), TP("log", 0)


def bare(**attributes: Any) -> Any:
    return bare_consumer(BatchConsumer, **attributes)


async def test_the_committed_offset_is_read_before_the_logs_end_and_once_an_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    async def places(tps: list[TP]) -> dict[TP, Any]:
        order.append("committed")
        return dict.fromkeys(tps, (7, 0, 9))

    async def highwaters(self: Any, *tps: TP) -> dict[TP, int]:
        order.append("end")
        return dict.fromkeys(tps, 9)

    monkeypatch.setattr(driver.Consumer, "highwaters", highwaters)
    ours = bare(
        assignment=lambda: {INPUT, LOG},
        _is_changelog_tp=lambda tp: tp == LOG,
        _thread=SimpleNamespace(places=places),
    )
    assert await ours.highwaters(LOG) == {LOG: 9}
    assert await ours.highwaters(LOG) == {LOG: 9}
    assert order == ["committed", "end", "end"]
    assert ours.start_of(INPUT) == 7
    ours.epoch += 1
    assert ours.start_of(INPUT) is None


async def test_a_start_that_was_read_while_the_group_rebalanced_is_not_used() -> None:
    async def places(tps: list[TP]) -> dict[TP, Any]:
        ours.epoch += 1
        return dict.fromkeys(tps, (7, 0, 9))

    thread = SimpleNamespace(places=places)
    ours = bare(assignment=lambda: {INPUT}, _thread=thread)
    with pytest.raises(IllegalStateError):
        await ours._read_start()
    assert ours.start_of(INPUT) is None


async def test_policies_run_on_the_main_loop_and_may_be_async_or_leave_a_start_to_the_state() -> None:
    ran_on: list[int] = []
    other = TP("inbox", 1)

    async def places(tps: list[TP]) -> dict[TP, Any]:
        return dict.fromkeys(tps, (None, 2, 8))

    async def looked(begin: int, end: int) -> int:
        return begin + end

    def policy(tp: TP, committed: int | None, begin: int, end: int) -> Any:
        ran_on.append(threading.get_ident())
        return looked(begin, end) if tp == INPUT else None

    ours = bare(
        assignment=lambda: {INPUT, other},
        app=SimpleNamespace(start_policy=policy),
        _thread=SimpleNamespace(places=places),
    )
    await ours._read_start()
    assert ran_on == [threading.get_ident()] * 2
    assert (ours.start_of(INPUT), ours.start_of(other)) == (10, None)
    ours.set_start(other, 5)
    assert ours.start_of(other) == 5


async def test_a_start_that_the_state_has_not_set_yet_does_not_end_the_process() -> None:
    sought: list[dict[TP, int]] = []

    async def places(tps: list[TP]) -> dict[TP, Any]:
        return dict.fromkeys(tps, (5, 2, 8))

    async def seek_wait(starts: dict[TP, int]) -> None:
        sought.append(dict(starts))

    ours = bare(
        assignment=lambda: {INPUT},
        app=SimpleNamespace(start_policy=lambda *_: None),
        _thread=SimpleNamespace(places=places, seek_wait=seek_wait),
        _read_offset={},
        _committed_offset={},
    )
    await ours.perform_seek()
    assert sought == [{INPUT: 5}]
    # The state may still set another start in this epoch.
    assert ours.start_of(INPUT) is None


async def test_each_revocation_and_each_assignment_begins_an_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nothing(*_: Any) -> None:
        """Faust's hook, which needs a group."""

    monkeypatch.setattr(driver.Consumer, "on_partitions_revoked", nothing)
    monkeypatch.setattr(driver.Consumer, "on_partitions_assigned", nothing)
    ours = bare(_next={INPUT: 5}, app=SimpleNamespace(on_rebalance_start=lambda: None))
    await ours.on_partitions_revoked({INPUT})
    assert (ours.epoch, ours._next) == (2, {})
    # A static member keeps its generation when it rejoins.
    await ours.on_partitions_assigned({INPUT}, 4)
    await ours.on_partitions_assigned({INPUT}, 4)
    assert ours.epoch == 4


async def test_a_delivery_blocked_at_a_full_queue_ends_when_the_flow_is_suspended() -> None:
    suspended = asyncio.Event()

    async def full_queue(message: Any) -> None:
        await asyncio.Event().wait()

    ours = bare(
        suspend_flow=suspended,
        callback=full_queue,
        _next={INPUT: 5},
        _active_partitions={INPUT},
        _to_message=lambda tp, record: SimpleNamespace(tp=tp, offset=record.offset),
        _stopped=asyncio.Event(),
        _crashed=asyncio.Event(),
        _loop=asyncio.get_running_loop(),
    )
    delivering = asyncio.create_task(ours._deliver({INPUT: [SimpleNamespace(offset=5, timestamp=0)]}, epoch=1))
    await asyncio.sleep(0)
    suspended.set()
    async with asyncio.timeout(5):
        await delivering


class Copying(RecordMapper):
    def for_partition(self, topic: str, partition: int) -> RecordMapper:
        return self

    def map_record(self, record: Any) -> bytes:
        return bytes(record.value)


async def test_a_broker_holds_an_idle_fetch_for_a_short_time(tmp_path: Path) -> None:
    topic = TopicSpec("t", None, "k", "w", ("a.w.r",), -1)
    app = Sequencer("a.w.r", [topic], topic, Copying(), Connection("h:1", "w-0", tmp_path)).app
    held_ms = {}
    for kind in (driver.AIOKafkaConsumerThread, BatchConsumerThread):
        thread: Any = kind.__new__(kind)
        thread.__dict__.update(app=app, consumer=app.consumer)
        held_ms[kind] = thread._create_worker_consumer(app.transport)._fetch_max_wait_ms
    assert held_ms[driver.AIOKafkaConsumerThread] == 1_500, "the defect is gone"
    assert held_ms[BatchConsumerThread] < 100
