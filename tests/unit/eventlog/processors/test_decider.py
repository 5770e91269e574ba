"""The decider: undecodable inputs, inputs without a state, and timers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

import eventlog.processors.decider as kernel
from eventlog.core.errors import Poisoned
from eventlog.core.partition_state import PartitionState
from eventlog.processors import timer_loop
from eventlog.processors.base import Batch
from eventlog.processors.decider import Decider
from eventlog.processors.meter import DecideCounts
from eventlog.processors.timer_loop import TimerLoop
from eventlog.records.envelope import HeaderTemplate
from eventlog.views.change_notifier import ChangeNotifier
from tests.unit.eventlog.counting import LIFE_MS, Counter, Counting, add, record

#: The broker's time, which the process does not know at first.
NOW_MS = 1_700_000_000_000


class Log:
    """A broker that acknowledges all output at once, with its own time."""

    def __init__(self) -> None:
        self.written: list[tuple[str, bytes, bytes]] = []

    def output(self, producer: Any, topic: str, partition: int, acknowledged: Any = None) -> Any:
        waiting: list[tuple[bytes, bytes, Any]] = []

        async def send(*, full: bool = False) -> list[asyncio.Future[Any]]:
            sent, waiting[:] = list(waiting), []
            if not sent:
                return []
            first = sum(one[0] == topic for one in self.written)
            self.written += [(topic, key, value) for key, value, _ in sent]
            if acknowledged is not None:
                acknowledged(first, len(sent), NOW_MS, sent[-1][2])
            done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return [done]

        def append(key: bytes, value: bytes, headers: Any, mark: object = None) -> None:
            waiting.append((key, value, mark))

        return SimpleNamespace(append=append, send=send, full=False)


class Fixture:
    """A decider without Faust, which owns partition 3."""

    def __init__(self, log: Log, state: PartitionState[Counter]) -> None:
        made: Any = Decider.__new__(Decider)
        made.domain = state.domain
        made._inbox, made._log = SimpleNamespace(name="inbox"), SimpleNamespace(name="log")
        made._stamp = HeaderTemplate("t", "/s")
        inbox: Any = SimpleNamespace(name="inbox", type_name="tick")
        made._timers = TimerLoop(state.domain, inbox, "/s", made._owned, made._decides, lambda: None)
        made.notifier, made._in_flight, made.quarantined = ChangeNotifier(), {}, {}
        made.decide_counts = DecideCounts()
        self.states = {3: state}
        store = SimpleNamespace(
            ready=lambda partition, epoch: self.states.get(partition) if epoch == 1 else None,
            owned=lambda epoch: list(self.states.values()),
            recovered_epoch=1,
        )
        made._table = SimpleNamespace(data=store)
        made.app = SimpleNamespace(consumer=SimpleNamespace(epoch=1, leased=True, committed_at_start=lambda tp: 0))
        made.quarantine = lambda poisoned: made.quarantined.setdefault(poisoned.partition, poisoned)
        self.decider = made

    def handle(self, *records: Any) -> Any:
        return self.decider.handle(Batch("inbox", 3, list(records), 1))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log()
    monkeypatch.setattr(kernel, "Output", made.output)
    monkeypatch.setattr(timer_loop, "Output", made.output)
    monkeypatch.setattr(Decider, "producer", None)
    return made


def recovered() -> PartitionState[Counter]:
    state = PartitionState(Counting(), 3, inbox="inbox")
    state.next_input = 0
    return state


POISON = (
    record(2, b"{}"),
    record(2, b"\xff"),
    record(2, None),
    record(2, add(1, "x"), key=None),
    record(2, add(1, "x"), key=b"\xff"),
)


@pytest.mark.parametrize("poison", POISON)
async def test_an_undecodable_input_stops_its_partition_after_the_decisions_before_it_are_sent(
    log: Log, poison: Any
) -> None:
    made = Fixture(log, recovered())
    state = made.states[3]
    written = await made.handle(record(0, add(1, "a")), record(1, add(1, "b")), poison, record(3, add(1, "c")))
    found = made.decider.quarantined[3]
    assert (found.topic, found.partition, found.offset) == ("inbox", 3, 2)
    # The decisions before it are sent and registered, so checkpoints of a quarantined partition continue.
    assert len(log.written) == 2
    assert len(written) == 1
    assert (state.applied, state.pending, state.fully_acknowledged) == (1, 0, True)
    await asyncio.sleep(0)
    assert all(batch.done() for batch in made.decider._in_flight[3])
    # After a skip, the partition resumes at the next input.
    assert state.next_input == 2
    made.decider.quarantined.clear()
    made.decider.skipped(Poisoned.for_record("inbox", 3, 2, poison.value, "recorded"))
    assert state.next_input == 3
    await made.handle(record(3, add(1, "c")))
    assert len(log.written) == 3
    assert not made.decider.quarantined


async def test_a_skip_of_another_record_does_not_move_the_next_input(log: Log) -> None:
    made = Fixture(log, recovered())
    made.decider.skipped(Poisoned.for_record("inbox", 3, 5, b"", "recorded"))
    assert made.states[3].next_input == 0


async def test_input_without_a_state_is_an_error_only_after_the_recovery_of_its_epoch(log: Log) -> None:
    made = Fixture(log, recovered())
    made.states.clear()
    reported: list[Batch] = []
    made.decider.report_missing_state = reported.append
    assert await made.handle(record(0, add(1, "a"))) is None
    assert len(reported) == 1
    # A newer recovery is running; it will read this batch again.
    made.decider._store.recovered_epoch = 0
    assert await made.handle(record(0, add(1, "a"))) is None
    assert len(reported) == 1


def open_counter(opened_ms: int) -> PartitionState[Counter]:
    """A recovered partition with one open counter, and no input."""
    live = PartitionState(Counting(), 3)
    decision = live.decide(record(0, add(1, "a"), timestamp=opened_ms))
    state = recovered()
    state.apply(record(0, decision, timestamp=opened_ms))
    return state


async def test_a_new_process_fires_due_timers_without_any_input(log: Log) -> None:
    made = Fixture(log, open_counter(NOW_MS - 86_400_000))
    await made.decider._timers.fire_timers(made.states[3])
    await made.decider._timers.fire_timers(made.states[3])
    ticks = [value for topic, _, value in log.written if topic == "inbox"]
    # The first tick is sent to learn the time, the second because the timer is due.
    assert ticks == [Counting().tick(NOW_MS - 86_400_000 + LIFE_MS)] * 2


async def test_a_new_process_sends_one_tick_to_learn_the_time_if_no_timer_is_due(log: Log) -> None:
    made = Fixture(log, open_counter(NOW_MS - 1))
    waits = [await made.decider._timers.fire_timers(made.states[3]) for _ in range(3)]
    assert len(log.written) == 1
    assert 0.5 < waits[-1] <= 1.0


async def test_no_timer_fires_in_a_quarantined_partition(log: Log) -> None:
    made = Fixture(log, open_counter(NOW_MS - 86_400_000))
    made.decider.quarantined[3] = Poisoned.for_record("inbox", 3, 2, b"", "planted")
    await made.decider._timers.fire_timers(made.states[3])
    assert log.written == []


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_batch_has_the_timers_checked_only_if_one_fires_before_the_next_check(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timer_loop, "POLL_INTERVAL_S", 3600.0)
    made = Fixture(log, recovered())
    state, timers = made.states[3], made.decider._timers
    timers.on_acknowledged(NOW_MS)
    checks: list[int] = []

    async def check(state: PartitionState[Counter]) -> float:
        checks.append(state.partition)
        if len(checks) == 2:
            # A batch that is decided during the check is not missed.
            timers.decided(state)
        return 3600.0

    timers.fire_timers = check
    loop = asyncio.create_task(timers.run())
    await turns()
    assert checks == [3]
    timers.decided(state)
    state.timers.schedule("far", NOW_MS + 2 * 3_600_000)
    timers.decided(state)
    await turns()
    assert checks == [3]
    state.timers.schedule("near", NOW_MS + 1_800_000)
    timers.decided(state)
    await turns()
    assert checks == [3, 3, 3]
    loop.cancel()


async def test_a_timer_stays_late_while_batches_are_decided(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ms = 1_000
    monkeypatch.setattr(timer_loop, "_monotonic_ms", lambda: now_ms)
    made = Fixture(log, recovered())
    state, timers = made.states[3], made.decider._timers
    timers.on_acknowledged(NOW_MS)
    timers._sleeps_until_ms = 1_500
    state.timers.schedule("k", NOW_MS + 700)
    timers.decided(state)
    assert not timers._wake.is_set()
    state.timers.schedule("earlier", NOW_MS + 400)
    timers.decided(state)
    assert timers._wake.is_set()
    now_ms = 1_900
    timers.decided(state)
    assert timers.late_s([3]) == 0.5
