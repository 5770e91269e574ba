"""The log watch of a running decider accepts duplicates and stops the partition at any other foreign record."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from faust.types import TP

from eventlog.consuming import log_range
from eventlog.core.errors import Poisoned
from eventlog.core.partition_state import PartitionState
from eventlog.processors.guards.log_watch import LogWatch
from tests.unit.eventlog.counting import Counter, Counting, add, record

DECIDED = 3


def decided(count: int, what: int = 1) -> tuple[PartitionState[Counter], list[Any]]:
    """A state with so many acknowledged decisions, and its log."""
    live = PartitionState(Counting(), 0, log="log")
    log = []
    for number in range(count):
        log.append(record(number, live.decide(record(number, add(what, f"{what}-{number}")))))
        live.next_input = number + 1
    aggregate = live.get("k")
    assert aggregate is not None
    live.on_acknowledged(0, count, aggregate.digest)
    return live, log


class Broker:
    """One log, and the end of one inbox."""

    def __init__(self, log: list[Any], inbox_end: int) -> None:
        self.log, self.inbox_end = log, inbox_end

    async def ends(self, tps: list[TP]) -> dict[TP, int]:
        return {tp: len(self.log) if tp.topic == "log" else self.inbox_end for tp in tps}

    def consumer(self, **_: Any) -> Any:
        place = SimpleNamespace(at=0)

        async def nothing() -> None:
            return None

        async def getmany(tp: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
            found, place.at = self.log[place.at :], len(self.log)
            return {tp: found}

        return SimpleNamespace(
            start=nothing, stop=nothing, assign=lambda _: None, getmany=getmany,
            seek=lambda _, offset: setattr(place, "at", offset),
        )  # fmt: skip


def watched(
    state: PartitionState[Counter], broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> tuple[LogWatch, list[Poisoned]]:
    stopped: list[Poisoned] = []
    monkeypatch.setattr(log_range, "AIOKafkaConsumer", broker.consumer)
    owned = lambda: [state]  # noqa: E731
    watch = LogWatch("nowhere:1", "log", "inbox", owned, broker.ends, lambda _, poisoned: stopped.append(poisoned))
    return watch, stopped


async def test_own_decisions_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    state, log = decided(DECIDED)
    broker = Broker(log, DECIDED)
    broker.consumer = None  # type: ignore[assignment, method-assign]
    watch, stopped = watched(state, broker, monkeypatch)
    await watch._compare_all()
    assert stopped == []


async def test_duplicates_of_another_owner_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    state, log = decided(DECIDED)
    again = [record(DECIDED + n, one.value) for n, one in enumerate(log)]
    watch, stopped = watched(state, Broker([*log, *again], DECIDED), monkeypatch)
    await watch._compare_all()
    assert (stopped, state.applied) == ([], 2 * DECIDED - 1)


async def test_a_decision_that_is_not_made_here_yet_is_compared_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another owner has decided an input that is already in the inbox."""
    state, _ = decided(DECIDED)
    more = decided(DECIDED + 1)[1]
    watch, stopped = watched(state, Broker(more, DECIDED + 1), monkeypatch)
    await watch._compare_all()
    assert (stopped, state.applied) == ([], DECIDED - 1)
    value = state.decide(record(DECIDED, add(1, f"1-{DECIDED}")))
    assert value == more[-1].value
    state.next_input, state.pending = DECIDED + 1, 0
    await watch._compare_all()
    assert (stopped, state.applied) == ([], DECIDED)


FOREIGN: dict[str, Callable[[], Any]] = {
    "bad bytes": lambda: record(DECIDED, b"\xff"),
    "null value": lambda: record(DECIDED, None),
    "a fork": lambda: record(DECIDED, decided(DECIDED, what=2)[1][-1].value),
    "an input that was decided": lambda: record(DECIDED, decided(1, what=2)[1][0].value, key=b"other"),
    "an input that does not exist": lambda: record(DECIDED, decided(DECIDED + 1)[1][-1].value),
}


@pytest.mark.parametrize("what", FOREIGN)
async def test_a_foreign_record_stops_the_partition(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state, log = decided(DECIDED)
    watch, stopped = watched(state, Broker([*log, FOREIGN[what]()], DECIDED), monkeypatch)
    await watch._compare_all()
    assert [(one.topic, one.partition, one.offset) for one in stopped] == [("log", 0, DECIDED)]
    assert state.applied == DECIDED - 1
