"""Two workers: partitions move between them while they work, and a standby takes over with its state folded.

The module tests/chaos/kernel/late_replica.py does the same with ten times the log.
"""

from __future__ import annotations

import asyncio
import collections
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventlog.core.partition_state import PartitionState
from eventlog.processors import base
from eventlog.processors.base import Connection
from eventlog.processors.decider import Decider
from eventlog.processors.projection import Index, Projection
from eventlog.processors.standby.followers import NEAR_RECORDS
from eventlog.records.codec import Codec
from tests.chaos.kernel import late_replica
from tests.chaos.kernel.refold import read
from tests.chaos.kernel.run import PARTITIONS, exact
from tests.chaos.kernel.site import SESSION_S, Site
from tests.unit.eventlog.counting import Counter, Counting
from tests.waiting import wait_for_async

#: Decisions in the log when the late replica joins.
DECISIONS = 50_000


def _applied(decider: Decider[Counter]) -> dict[int, int]:
    """Folded offset of each owned or followed partition."""
    assert decider.standby is not None
    owned = {partition: state.applied for partition, state in decider._table.data._states.items()}
    followed = {partition: at.get(decider._log.name, 0) - 1 for partition, at in decider.standby.positions.items()}
    assert not owned.keys() & followed.keys(), "a partition is open twice"
    return owned | followed


async def test_a_standby_takes_over_with_nothing_left_to_fold(
    kafka_broker: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(base, "SESSION_S", SESSION_S)
    async with Site(kafka_broker, tmp_path) as site:
        active = site.start("w0")
        await site.wait_started("w0")
        # In this process, so that the test can read its state.
        connection = Connection(site.kafka, "w1", tmp_path / "w1")
        codec: Codec[Counter] = Codec.of("counting-1", Counter)
        standby = Decider(site.inbox.readers[0], site.inbox, site.log, Counting(), connection, codec)
        await standby.start(PARTITIONS)
        try:
            await site.feed(4_000, aggregates=500, seconds=1)
            await site.wait_drained()
            # Nothing is in flight before the comparison: no counter is open, so no timer fires.
            await wait_for_async(lambda: _followed(site, standby), seconds=30)
            warm = _applied(standby)
            mine = {state.partition for state in standby._owned()}
            assert 0 < len(mine) < PARTITIONS, "each has some partitions, and a standby of the others"
            folded = _count_what_is_folded(monkeypatch)
            active.kill()
            await wait_for_async(lambda: _owns_all(standby), seconds=40)
            assert not folded, "it had to read what it was to have at hand"
            assert _applied(standby) == warm
            assert standby.standby is not None
            assert not standby.standby.positions, "who is alone follows nothing"
            await site.feed()
            await site.wait_drained()
        finally:
            await standby.stop()
        counts = await site.settled_counts()
        assert exact(counts), counts


async def _followed(site: Site, decider: Decider[Counter]) -> bool:
    ends = await site.ends(site.log)
    return {partition: applied + 1 for partition, applied in _applied(decider).items()} == ends


async def _owns_all(decider: Decider[Counter]) -> bool:
    return len(decider._owned()) == PARTITIONS


def _count_what_is_folded(monkeypatch: Any) -> list[int]:
    """Records the offsets of all records that are folded from now on."""
    folded: list[int] = []
    apply: Callable[..., None] = PartitionState.apply

    def counting(self: PartitionState[Any], record: Any) -> None:
        if record.offset > self.applied:
            folded.append(record.offset)
        apply(self, record)

    monkeypatch.setattr(PartitionState, "apply", counting)
    return folded


async def test_busy_partitions_are_drained_before_they_move_and_nothing_is_decided_twice(
    kafka_broker: str, tmp_path: Path
) -> None:
    async with Site(kafka_broker, tmp_path) as site:
        first = site.start("w0")
        await site.wait_started("w0")
        feeding = asyncio.create_task(site.feed(9_000, aggregates=1_500, seconds=9))
        # A rebalance in the middle …
        second = site.start("w1")
        await site.wait_started("w1")
        assert not feeding.done(), "the load was to go on through the rebalance"
        # … and a worker that is stopped while there is work.
        first.send_signal(signal.SIGTERM)
        assert await site.wait_exit(first) == 0
        await feeding
        await site.wait_drained()
        second.send_signal(signal.SIGTERM)
        assert await site.wait_exit(second) == 0
        counts = await site.settled_counts()
        assert exact(counts), counts
        # Partitions were drained before they moved: decided inputs were committed, so none was decided again.
        assert "repeats" not in counts
        owners = {name: _ready(site.log_of(name)) for name in ("w0", "w1")}
        assert owners["w0"] == owners["w1"] == set(range(PARTITIONS))


def _ready(log: Path) -> set[int]:
    return {int(partition) for partition in re.findall(r"-(\d+) ready:", log.read_text())}


@pytest.mark.timeout(300)
async def test_a_late_replica_folds_ahead_and_takes_over(kafka_broker: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(base, "SESSION_S", SESSION_S)
    async with Site(kafka_broker, tmp_path) as site:
        report = await late_replica.run(site, DECISIONS)
    assert report.decisions >= DECISIONS
    # The replica had almost nothing left to fold when it joined and when the owner crashed.
    assert report.folded_ahead >= report.decisions
    assert report.behind < NEAR_RECORDS
    assert exact(report.counts), report


async def test_a_lost_state_directory_loses_nothing(kafka_broker: str, tmp_path: Path) -> None:
    async with Site(kafka_broker, tmp_path) as site:
        for _ in range(2):
            worker = site.start()
            await site.feed()
            await site.wait_drained()
            worker.kill()
            site.delete_state("w0")
        counts = await site.settled_counts()
        assert exact(counts), counts
        assert counts["decisions"] > 0


class _Counts:
    """Number of records of each key."""

    stamp = "counts-1"

    def initial(self, key: str) -> list[int]:
        return [0]

    def is_decision_log(self, topic: str) -> bool:
        return False

    def fold(self, state: list[int], topic: str, record: Any, index: Index) -> None:
        state[0] += 1

    def encode(self, state: list[int]) -> bytes:
        return str(state[0]).encode()

    def decode(self, key: str, value: bytes) -> list[int]:
        return [int(value)]


async def test_a_projection_is_taken_over_warm(kafka_broker: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(base, "SESSION_S", SESSION_S)
    async with Site(kafka_broker, tmp_path) as site:
        await site.feed(3_000, aggregates=300)

        def projection(name: str) -> Projection[list[int]]:
            connection = Connection(site.kafka, name, tmp_path / name, f"127.0.0.1:{name[1:]}")
            return Projection(f"groupbuy.projection.{site.tag}", [site.inbox], "chaos", _Counts(), connection)

        first, second = projection("p1"), projection("p2")
        try:
            await first.start(PARTITIONS)
            await _until(lambda: first.ready)
            await second.start(PARTITIONS)
            await _until(lambda: second.ready and first.ready)
            assert second.standby is not None
            folded = second.standby.folded
            assert folded >= 3_000, "it folded ahead of its joining"
            await site.feed(500, aggregates=100)
            ends = await site.ends(site.inbox)
            await _until(lambda: _read_to(second, site.inbox.name) == ends)
            mine = set(second._open_partitions.held)
            assert 0 < len(mine) < PARTITIONS
            assert set(second.standby.positions) == set(range(PARTITIONS)) - mine
            await first.stop()
            await _until(lambda: len(second._open_partitions.held) == PARTITIONS and second.ready)
            assert not second.standby.positions
            records = [record for some in await read(site.kafka, site.inbox.name, PARTITIONS) for record in some]
            counts = collections.Counter(record.key.decode() for record in records)
            assert {key: second.get(key) for key in counts} == {key: [count] for key, count in counts.items()}
        finally:
            await first.stop()
            await second.stop()


def _read_to(one: Projection[list[int]], topic: str) -> dict[int, int]:
    """Next offset of each owned or followed partition."""
    assert one.standby is not None
    owned = {partition: one.position(topic, partition) for partition in one._open_partitions.held}
    return owned | {partition: at.get(topic, 0) for partition, at in one.standby.positions.items()}


async def _until(true: Callable[[], bool]) -> None:
    async def so() -> bool:
        return true()

    await wait_for_async(so, seconds=60, every=0.02)
