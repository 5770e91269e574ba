"""What a processor counts, and its present values."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from eventlog.faust import progress as measured
from eventlog.faust.progress import Deliveries, progress
from eventlog.processors.base import Batch
from eventlog.processors.meter import ProcessorMeter, copied
from tests.unit.eventlog.counting import add, record
from tests.unit.eventlog.processors.bare_processor import Bare, Stream, consuming
from tests.unit.eventlog.processors.test_decider import Fixture, Log, log, recovered  # noqa: F401 - a fixture
from tests.waiting import wait_for_async

NOW_MS = 1_000_000
A, B, OTHER = TP("inbox", 0), TP("inbox", 1), TP("log", 0)


async def test_handled_batches_and_records_are_counted_and_dropped_ones_are_not() -> None:
    async def does(batch: Batch) -> Any:
        return None if batch.partition == 2 else ()

    bare, stream = Bare(does), Stream()
    end = await consuming(bare, stream)
    stream.put(0, 1, 2, 3)
    stream.put(1, 7)
    stream.put(2, 9)

    async def dropped() -> bool:
        return bare.consumer.dropped == [9]

    await wait_for_async(dropped, seconds=5, every=0.01)
    await end()
    assert bare.meter.handled == {"inbox": 4}
    assert bare.meter.batches == 2
    assert 0 < bare.meter.batch_s < 5


async def test_a_decider_counts_its_records_by_outcome(log: Log) -> None:  # noqa: F811
    decider, fault = Fixture(log, recovered()), b'{"raise": true}'
    await decider.handle(record(0, add(1, "a")), record(1, add(1, "a")), record(2, fault), record(3, add(2, "b")))
    counts = decider.decider.decide_counts
    assert (counts.decided, counts.nothing, counts.repeats) == (3, 1, 0)
    assert counts.faulted == 1
    await decider.handle(record(2, fault), record(3, add(2, "b")), record(4, add(4, "c")))
    assert (counts.decided, counts.nothing, counts.repeats) == (4, 1, 2)
    assert 0 < counts.seconds < 5


async def test_a_recovery_lasts_from_the_last_assignment_to_the_first_answered_read() -> None:
    processor: Any = SimpleNamespace(resumed=False, ready=True)
    meter = ProcessorMeter(processor)
    watching = asyncio.create_task(meter.watch_recoveries())
    meter.begin_epoch()
    await asyncio.sleep(0)
    assert meter.recovery_s.count == 0
    meter.begin_epoch()
    processor.resumed = True

    async def measured() -> bool:
        return meter.recovery_s.count == 1

    await wait_for_async(measured, seconds=5, every=0.02)
    assert 0 < meter.recovery_s.total < 5
    watching.cancel()


def test_a_processor_that_has_not_started_shows_zeros_and_touches_no_consumer() -> None:
    gauges = ProcessorMeter(SimpleNamespace()).gauges()  # type: ignore[arg-type]
    assert (gauges.progress.partitions, gauges.progress.lag_s, gauges.lease_s) == (0, 0.0, 0.0)


def test_a_dictionary_that_changes_while_it_is_copied_is_copied_again() -> None:
    tries: list[int] = []

    def read() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("dictionary changed size during iteration")
        return "copy"

    assert copied(read) == "copy"


def consumer(**ends: int | None) -> Any:
    """A consumer of the inbox that has read to 10 in A and 20 in B; `ends` by partition's letter."""
    states = {A: ends.get("a"), B: ends.get("b")}
    assignment = SimpleNamespace(state_value=lambda tp: SimpleNamespace(highwater=states.get(TP(*tp))))
    client = SimpleNamespace(_subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)))
    return SimpleNamespace(
        assignment_now={A, B, OTHER},
        _next={A: 10, B: 20},
        deliveries=Deliveries(),
        _thread=SimpleNamespace(_consumer=client),
    )


def test_lag_is_what_is_not_delivered_and_what_is_in_flight(monkeypatch: Any) -> None:
    monkeypatch.setattr(measured, "wall_clock_ms", lambda: NOW_MS)
    made = consumer(a=13, b=20)
    assert progress(made, ["inbox"]) == (2, {"inbox": 3}, 0.0, 0)
    made.deliveries.add(B, 19, NOW_MS - 1_500, 5)
    made.deliveries.add(A, 9, NOW_MS - 4_000, 2)
    assert progress(made, ["inbox"]) == (2, {"inbox": 10}, 4.0, 2)
    made.deliveries.end(A, 9)
    assert progress(made, ["inbox"]) == (2, {"inbox": 8}, 1.5, 1)
    made.deliveries.clear()
    assert progress(made, ["inbox"]) == (2, {"inbox": 3}, 0.0, 0)


def test_an_end_that_was_never_fetched_adds_no_lag() -> None:
    assert progress(consumer(a=None, b=None), ["inbox"]).lag_records == {"inbox": 0}
    without_client = consumer()
    without_client._thread._consumer = None
    assert progress(without_client, ["inbox"]).lag_records == {"inbox": 0}
