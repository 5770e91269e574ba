"""The router appends to the partition of each target key, keeps the order of first appearances, and quarantines."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from eventlog.consuming.router_start import router_start
from eventlog.core.partitioner import partition_of
from eventlog.processors import router
from eventlog.processors.base import Batch
from tests.unit.eventlog.processors.routers import (
    PARTITIONS,
    SOURCE,
    TARGET,
    Bare,
    Broker,
    Process,
    SimulatedOutput,
    Target,
    decision,
    key_in,
)
from tests.unit.eventlog.support import run_python

HISTORIES = 300
DECISIONS = 60


@pytest.fixture(autouse=True)
def simulated_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "Output", SimulatedOutput)


class Written:
    """A producer that lists what is sent."""

    def __init__(self) -> None:
        self.records: list[tuple[str, int, bytes, bytes, Any]] = []

    def output(self, producer: Any, topic: str, partition: int) -> Any:
        pending: list[Any] = []

        def append(key: bytes, value: bytes, headers: Any) -> None:
            pending.append((topic, partition, key, value, headers))

        async def send(*, full: bool = False) -> list[Any]:
            if not full:
                self.records += pending
                pending.clear()
            return []

        return SimpleNamespace(append=append, send=send)


# One batch ----------------------------------------------------------------------------------------------------------


async def test_each_record_goes_to_the_partition_of_its_own_key_with_the_decisions_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = Written()
    monkeypatch.setattr(router, "Output", written.output)
    a, b, source = key_in(0, 1), key_in(3, 2), key_in(1, 3)
    bare = Bare()
    records = [decision(7, 5, f"{a} {b}", source), decision(8, 6, "", source), decision(9, 7, a, source)]
    assert await bare.handle(Batch(SOURCE, 1, records, 1)) == []
    headers = [("ce_id", b"1")]
    assert sorted(written.records) == [
        (TARGET, 0, a.encode(), b"1:5", headers),
        (TARGET, 0, a.encode(), b"1:7", headers),
        (TARGET, 3, b.encode(), b"1:5", headers),
    ]
    assert bare.routed == 3


async def test_a_decision_that_can_not_be_mapped_quarantines_after_the_ones_before_it_are_routed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = Written()
    monkeypatch.setattr(router, "Output", written.output)
    a, source = key_in(0, 1), key_in(1, 3)
    bare = Bare()
    records = [decision(7, 5, a, source), decision(8, 6, "?", source), decision(9, 7, a, source)]
    assert await bare.handle(Batch(SOURCE, 1, records, 1)) == []
    assert [value for *_, value, _ in written.records] == [b"1:5"]
    assert [(one.topic, one.partition, one.offset) for one in bare.stopped] == [(SOURCE, 1, 8)]
    bare.skipped_offsets = {8}
    assert await bare.handle(Batch(SOURCE, 1, records, 1)) == []
    assert [value for *_, value, _ in written.records] == [b"1:5", b"1:5", b"1:7"]
    assert len(bare.stopped) == 1


async def test_a_decision_under_the_key_of_another_partition_quarantines() -> None:
    bare = Bare()
    await bare.handle(Batch(SOURCE, 1, [decision(0, 0, "", key_in(2, 1))], 1))
    assert "belongs to another partition" in bare.stopped[0].reason


async def test_a_duplicate_that_the_chain_knows_is_not_routed(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written()
    monkeypatch.setattr(router, "Output", written.output)
    bare = Bare()
    bare.chain = SimpleNamespace(follows=lambda record, _: record.offset == 7, remember=lambda _: None)
    a, source = key_in(0, 1), key_in(1, 3)
    await bare.handle(Batch(SOURCE, 1, [decision(7, 5, a, source), decision(8, 5, a, source)], 1))
    assert len(written.records) == 1


async def test_a_batch_of_an_earlier_epoch_is_dropped() -> None:
    assert await Bare().handle(Batch(SOURCE, 1, [decision(0, 0, "", key_in(1, 1))], 0)) is None


# Starts -------------------------------------------------------------------------------------------------------------


def test_a_router_begins_at_its_committed_offset_and_without_one_at_the_beginning() -> None:
    tp = TP(SOURCE, 1)
    assert router_start(tp, 5, 0, 9) == 5
    assert router_start(tp, None, 0, 0) == 0
    assert router_start(tp, None, 0, 9) == 0
    # Nobody can have routed what is not in the log.
    assert router_start(tp, 12, 0, 9) == 0


@pytest.mark.parametrize("committed", [None, 2, 12])
def test_a_router_does_not_begin_after_missing_decisions(committed: int | None) -> None:
    code = f"""
        from faust.types import TP
        from eventlog.consuming.router_start import router_start
        router_start(TP("decisions", 1), {committed}, 4, 9)
    """
    done = run_python(code)
    assert done.returncode == 70, done.stderr


# The lemma ----------------------------------------------------------------------------------------------------------


def _decide(broker: Broker, chance: Random) -> None:
    """Appends decisions whose first appearances have ascending causes, as deciders do; stale owners repeat some."""
    keys = [key_in(partition, number) for partition in range(PARTITIONS) for number in range(2)]
    for partition, log in broker.decisions.items():
        source, cause = key_in(partition, 9), 0
        while len(log) < DECISIONS:
            if log and chance.random() < 0.1:
                first = chance.randrange(len(log))
                repeated = [decision(0, *_parts(one), source) for one in log[first : first + chance.randrange(1, 8)]]
                for one in repeated:
                    one.offset = len(log)
                    log.append(one)
                continue
            cause += chance.randrange(1, 4)
            named = chance.sample(keys, chance.choice((0, 1, 1, 2, 5)))
            log.append(decision(len(log), cause, " ".join(named), source))


def _parts(record: Any) -> tuple[int, str]:
    cause, text = record.value.decode().split("|")
    return int(cause), text


async def _route(broker: Broker, chance: Random, *, faults: bool) -> None:
    """Runs routers on all partitions until everything is routed. Faults: crashes and two owners at a time."""
    owners = {partition: Process(broker, partition, chance) for partition in range(PARTITIONS)}
    stale: list[Process] = []
    left = 40 if faults else 0
    while True:
        if left and chance.random() < 0.05:
            left -= 1
            partition = chance.randrange(PARTITIONS)
            before, owners[partition] = owners[partition], Process(broker, partition, chance)
            before.current = False
            kind = chance.randrange(3)
            if kind == 1:
                # The broker takes some of what was sent; the rest is lost with the process.
                for _ in range(chance.randrange(6)):
                    before.producer.deliver_one()
            elif kind == 2:
                stale.append(before)
        running = [*owners.values(), *stale]
        if not await chance.choice(running).step() and not any([await one.step() for one in running]):
            return


@pytest.mark.parametrize("seed", range(HISTORIES // 10))
async def test_first_appearances_are_in_order_however_routers_crash_overlap_and_repeat(seed: int) -> None:
    repeats = 0
    for history in range(10):
        chance = Random(seed * 10 + history)
        broker = Broker()
        _decide(broker, chance)
        await _route(broker, chance, faults=True)
        expected = {
            Target(partition, _parts(one)[0], key)
            for partition, log in broker.decisions.items()
            for one in log
            for key in _parts(one)[1].split()
        }
        arrived = [one for log in broker.targets.values() for one in log]
        assert set(arrived) == expected
        for partition, log in broker.targets.items():
            assert all(partition_of(one.key, PARTITIONS) == partition for one in log)
            greatest: dict[tuple[int, str], int] = {}
            accepted: list[Target] = []
            for one in log:
                # One number for each source and key drops every repeat and nothing else.
                if one.cause > greatest.get((one.source, one.key), -1):
                    greatest[one.source, one.key] = one.cause
                    accepted.append(one)
            assert len(accepted) == len(set(accepted)) == len(set(log))
            repeats += len(log) - len(accepted)
    assert repeats, "the histories repeated nothing"


async def test_the_lemma_fails_if_an_offset_is_committed_before_all_partitions_acknowledge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Process._read

    async def hasty(self: Any) -> None:
        await real(self)
        self._batches[-1] = (self._batches[-1][0], [])

    monkeypatch.setattr(Process, "_read", hasty)
    lost = 0
    for seed in range(20):
        chance = Random(seed)
        broker = Broker()
        _decide(broker, chance)
        await _route(broker, chance, faults=True)
        expected = sum(len(set(_parts(one)[1].split())) for log in broker.decisions.values() for one in _firsts(log))
        lost += expected - len({one for log in broker.targets.values() for one in log})
    assert lost, "a premature commit was not noticed"


def _firsts(log: list[Any]) -> list[Any]:
    return list({one.value: one for one in reversed(log)}.values())
