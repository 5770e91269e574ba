"""Standbys beside a log in memory: what they follow, how they hand over, and what ends a follower."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError

from eventlog.broker.group_members import Member
from eventlog.core.errors import InvariantViolation
from eventlog.processors.standby import followers, log_reader, standby, warm_up
from eventlog.processors.standby.followers import MAX_UNWRITTEN, NEAR_RECORDS, POLL_RECORDS
from eventlog.processors.standby.standby import Standby
from eventlog.processors.standby.warm_up import next_log
from tests.waiting import moment, wait_for_async

TOPIC = "shop.log.v1"
SECONDS = 10
#: Follows what the broker says as soon as it can.
WARM_S = 5.0


class Record(NamedTuple):
    offset: int
    value: bytes
    #: Milliseconds since the epoch.
    timestamp: int = 0


class Logs:
    """Partitions of one topic, and every consumer that reads them."""

    def __init__(self) -> None:
        self.logs: dict[int, list[Record]] = {}
        self.begins: dict[int, int] = {}
        self.consumers: list[Consumer] = []
        self.members: list[Member] = []
        self.broken: Exception | None = None

    def append(self, partition: int, count: int = 1) -> None:
        log = self.logs.setdefault(partition, [])
        log += [Record(len(log) + n, b"v", len(log) + n) for n in range(count)]

    def end(self, partition: int) -> int:
        return len(self.logs.get(partition, ()))


class Consumer:
    """As much of aiokafka's as a Standby uses."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._positions: dict[TopicPartition, int] = {}
        self.stopped = False
        logs.consumers.append(self)

    async def start(self) -> None:
        if self._logs.broken is not None:
            raise self._logs.broken

    async def stop(self) -> None:
        self.stopped = True

    def assign(self, tps: Sequence[TopicPartition]) -> None:
        self._positions = dict.fromkeys(tps, -1)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        assert tp in self._positions
        self._positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    def highwater(self, tp: TopicPartition) -> int:
        return self._logs.end(tp.partition)

    async def end_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self._logs.end(tp.partition) for tp in tps}

    async def beginning_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self._logs.begins.get(tp.partition, 0) for tp in tps}

    async def getmany(self, *tps: TopicPartition, timeout_ms: int, max_records: int) -> Mapping[TopicPartition, Any]:
        assert not self.stopped
        if self._logs.broken is not None:
            raise self._logs.broken
        for tp in tps:
            at = self._positions[tp]
            if not self._logs.begins.get(tp.partition, 0) <= at <= self._logs.end(tp.partition):
                raise OffsetOutOfRangeError({tp: at})
            found = self._logs.logs.get(tp.partition, [])[at : at + max_records]
            if found:
                self._positions[tp] = at + len(found)
                return {tp: found}
        await asyncio.sleep(0.001)
        return {}


class Disk:
    """Directories of a process: each is open once at most."""

    def __init__(self) -> None:
        self.kept: dict[int, int] = {}
        self.open: set[int] = set()
        self.written_at: dict[int, float] = {}


class Kept:
    """A follower that counts the records of one partition."""

    def __init__(self, disk: Disk, partition: int) -> None:
        assert partition not in disk.open, "opened twice"
        disk.open.add(partition)
        self._disk = disk
        self.partition = partition
        self.topics = (TOPIC,)
        self.next = disk.kept.get(partition, 0)
        self.closed = False
        self.writing = False
        self.longest = self._unwritten = 0
        self.poison = -1
        self.write: Callable[[], Any] = lambda: asyncio.sleep(0)

    @property
    def positions(self) -> Mapping[str, int]:
        return {TOPIC: self.next} if self.next else {}

    def apply(self, topic: str, records: Sequence[Any]) -> None:
        assert not self.closed
        assert not self.writing
        for record in records:
            if record.offset < self.next:
                continue
            if record.offset > self.next or record.offset == self.poison:
                raise InvariantViolation(f"not {record.offset}")
            self.next = record.offset + 1
            self._unwritten += 1
        self.longest = max(self.longest, self._unwritten)

    async def keep(self) -> None:
        assert not self.closed
        self.writing = True
        at, self._unwritten = self.next, 0
        await self.write()
        self._disk.kept[self.partition] = at
        self.writing = False

    def close(self) -> None:
        assert not self.writing, "closed below a write"
        if not self.closed:
            self.closed = True
            self._disk.open.discard(self.partition)


class Process:
    """A processor as a Standby sees it."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.followed: set[int] | None = None
        self.mine: set[int] = set()
        self.held: set[int] = set()
        self.followers: list[Kept] = []
        self.fails: dict[int, Exception] = {}
        self.opens: Callable[[], Any] = lambda: asyncio.sleep(0)
        self.write: Callable[[], Any] = lambda: asyncio.sleep(0)
        self.poisoned: dict[int, int] = {}

    def owns(self, partition: int) -> bool:
        return partition in self.mine

    def holds(self, partition: int) -> bool:
        return partition in self.held

    def written_at(self, partition: int) -> float:
        return self.disk.written_at.get(partition, 0.0)

    async def follow(self, partition: int) -> Kept:
        if partition in self.fails:
            raise self.fails[partition]
        kept = Kept(self.disk, partition)
        kept.write = self.write
        kept.poison = self.poisoned.get(partition, -1)
        try:
            await self.opens()
        except BaseException:
            kept.close()
            raise
        self.followers.append(kept)
        return kept


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Logs]:
    made = Logs()

    async def members(*_: object) -> list[Member]:
        return made.members

    monkeypatch.setattr(log_reader, "AIOKafkaConsumer", lambda **_: Consumer(made))
    monkeypatch.setattr(warm_up, "members_of", members)
    monkeypatch.setattr(standby, "POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(standby, "RETRY_S", 0.01)
    yield made
    assert all(consumer.stopped for consumer in made.consumers), "a consumer was left behind"


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    assert not made.open, "a database was left open"


@pytest.fixture
async def site(logs: Logs, disk: Disk) -> AsyncIterator[SimpleNamespace]:
    process = Process(disk)
    made = Standby("shop.decider", "w1", (TOPIC,), "broker", process, warm_s=WARM_S)
    running: list[asyncio.Task[None]] = []

    def run() -> None:
        running.append(asyncio.get_running_loop().create_task(made.run()))

    yield SimpleNamespace(logs=logs, disk=disk, process=process, standby=made, run=run)
    await made.stop()
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*running)


async def until(true: Callable[[], bool]) -> None:
    async def so() -> bool:
        return true()

    await wait_for_async(so, seconds=SECONDS, every=0.002)


async def test_it_follows_what_is_assigned_to_it_and_nothing_else(site: Any) -> None:
    for partition in range(3):
        site.logs.append(partition, 300)
    site.run()
    site.process.followed = {0, 2}
    await until(lambda: site.standby.positions == {0: {TOPIC: 300}, 2: {TOPIC: 300}})
    site.logs.append(0, 5)
    await until(lambda: site.standby.positions[0] == {TOPIC: 305})
    assert site.standby.behind == {0: 0, 2: 0}
    site.process.followed = {1, 2}
    await until(lambda: site.standby.positions == {1: {TOPIC: 300}, 2: {TOPIC: 300}})
    # What it follows no longer is written first.
    assert site.disk.kept[0] == 305
    assert site.disk.open == {1, 2}
    assert len([one for one in site.process.followers if one.partition == 2]) == 1, "who stays is not opened again"


async def test_nothing_is_read_where_nothing_is_followed(site: Any) -> None:
    site.logs.append(0, 10)
    site.run()
    site.process.followed = set()
    await until(lambda: site.process.followed is not None)
    await asyncio.sleep(0)
    assert not site.logs.consumers
    site.process.followed = {0}
    await until(lambda: site.standby.positions == {0: {TOPIC: 10}})
    site.process.followed = set()
    await until(lambda: site.logs.consumers[-1].stopped)


async def test_memory_is_bounded_by_writes(site: Any) -> None:
    site.logs.append(0, 3 * MAX_UNWRITTEN + 17)
    site.run()
    site.process.followed = {0}
    await until(lambda: site.standby.behind == {0: 0} and bool(site.standby.positions[0]))
    (follower,) = site.process.followers
    assert follower.longest <= MAX_UNWRITTEN + POLL_RECORDS
    assert site.disk.kept[0] >= 2 * MAX_UNWRITTEN


async def test_old_changes_are_written_though_they_are_few(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "MAX_UNWRITTEN_S", 0.01)
    site.logs.append(0, 3)
    site.run()
    site.process.followed = {0}
    await until(lambda: site.disk.kept.get(0) == 3)


async def test_an_adopted_follower_is_handed_over_open_and_left_alone(site: Any) -> None:
    site.logs.append(0, 50)
    site.logs.append(1, 50)
    site.run()
    site.process.followed = {0, 1}
    await until(lambda: site.standby.positions == {0: {TOPIC: 50}, 1: {TOPIC: 50}})
    site.process.mine = {0}
    site.process.followed = {1}
    follower = await site.standby.adopt(0)
    assert follower.positions == {TOPIC: 50}
    assert not follower.closed
    site.logs.append(0, 10)
    site.logs.append(1, 10)
    await until(lambda: site.standby.positions == {1: {TOPIC: 60}})
    assert follower.positions == {TOPIC: 50}, "it was folded into after the hand-over"
    assert await site.standby.adopt(0) is None
    follower.close()


async def test_an_adoption_waits_for_a_write_under_way(site: Any) -> None:
    release = asyncio.Event()
    site.logs.append(0, MAX_UNWRITTEN + 1)
    site.run()
    site.process.write = release.wait
    site.process.followed = {0}
    await until(lambda: any(one.writing for one in site.process.followers))
    site.process.mine = {0}
    adopting = asyncio.create_task(site.standby.adopt(0))
    await moment(0.01)
    assert not adopting.done()
    release.set()
    follower = await adopting
    assert not follower.writing
    follower.close()


async def test_an_adoption_waits_for_an_opening_under_way(site: Any) -> None:
    release = asyncio.Event()
    site.process.opens = release.wait
    site.run()
    site.process.followed = {0}
    await until(lambda: bool(site.disk.open))
    adopting = asyncio.create_task(site.standby.adopt(0))
    await moment(0.01)
    assert not adopting.done()
    site.process.mine = {0}
    site.process.followed = set()
    release.set()
    follower = await adopting
    assert site.disk.open == {0}
    follower.close()


async def test_a_partition_is_not_opened_while_its_last_owner_here_closes_it(site: Any) -> None:
    site.logs.append(0, 5)
    site.process.held = {0}
    site.run()
    site.process.followed = {0}
    await moment(0.05)
    assert not site.process.followers
    site.process.held = set()
    await until(lambda: site.standby.positions == {0: {TOPIC: 5}})


async def test_a_record_that_can_not_be_folded_ends_the_follower_and_nothing_else(site: Any) -> None:
    site.process.poisoned[0] = 20
    for partition in range(2):
        site.logs.append(partition, 60)
    site.run()
    site.process.followed = {0, 1}
    await until(lambda: site.standby.positions == {1: {TOPIC: 60}})
    assert site.disk.open == {1}
    site.logs.append(1)
    await until(lambda: site.standby.positions == {1: {TOPIC: 61}})
    assert len(site.process.followers) == 2, "it is not tried again and again"
    # The next owner says what it makes of it.
    assert await site.standby.adopt(0) is None
    # Lost once more, it is tried once more.
    site.process.poisoned.clear()
    await until(lambda: site.standby.positions == {0: {TOPIC: 60}, 1: {TOPIC: 61}})


async def test_a_hole_in_the_log_ends_the_follower(site: Any) -> None:
    site.logs.append(0, 60)
    site.logs.begins[0] = 30
    site.run()
    site.process.followed = {0}
    await until(lambda: len(site.process.followers) == 1 and site.process.followers[0].closed)


async def test_a_log_that_ends_before_what_was_folded_ends_the_follower(site: Any) -> None:
    site.logs.append(0, 60)
    site.run()
    site.process.followed = {0}
    await until(lambda: site.standby.positions == {0: {TOPIC: 60}})
    del site.logs.logs[0][30:]
    await until(lambda: site.process.followers[0].closed)


async def test_a_log_that_does_not_fit_what_is_kept_is_not_followed(site: Any) -> None:
    site.process.fails[0] = InvariantViolation("another log")
    site.logs.append(1, 5)
    site.run()
    site.process.followed = {0, 1}
    await until(lambda: site.standby.positions == {1: {TOPIC: 5}})


async def test_a_broker_that_is_away_is_waited_for(site: Any) -> None:
    site.logs.append(0, 5)
    site.logs.broken = KafkaConnectionError("away")
    site.run()
    site.process.followed = {0}
    await until(lambda: len(site.logs.consumers) > 2)
    site.logs.broken = None
    await until(lambda: site.standby.positions == {0: {TOPIC: 5}})
    site.logs.broken = KafkaConnectionError("away again")
    site.logs.append(0)
    site.process.fails[1] = KafkaConnectionError("can't be verified")
    site.process.followed = {0, 1}
    site.logs.broken = None
    await moment(0.03)
    del site.process.fails[1]
    await until(lambda: site.standby.positions == {0: {TOPIC: 6}, 1: {}})


# Before joining -----------------------------------------------------------------------------------------------------


async def test_all_partitions_are_folded_ahead_where_others_serve(site: Any) -> None:
    for partition in range(4):
        site.logs.append(partition, NEAR_RECORDS + 500)
    site.logs.members = [Member("w0", {TOPIC: [0, 1, 2, 3]})]
    await site.standby.warm_up(4)
    assert set(site.standby.positions) == {0, 1, 2, 3}
    assert set(site.standby.behind.values()) == {0}
    # Until there is an assignment all go on; then those that are neither owned nor followed are let go.
    site.run()
    site.logs.append(0, 5)
    await until(lambda: site.standby.positions[0] == {TOPIC: NEAR_RECORDS + 505})
    site.process.mine, site.process.followed = {0}, {1}
    await until(lambda: set(site.standby.positions) == {0, 1})
    assert site.disk.open == {0, 1}, "what is assigned waits for its adoption"
    follower = await site.standby.adopt(0)
    assert follower.positions == {TOPIC: NEAR_RECORDS + 505}
    follower.close()


async def test_who_is_alone_joins_at_once(site: Any) -> None:
    site.logs.append(0, 5)
    await site.standby.warm_up(1)
    site.logs.members = [Member("w1", {TOPIC: [0]})]
    await site.standby.warm_up(1)
    assert not site.process.followers
    assert not site.logs.consumers


async def test_who_restarts_within_its_session_folds_only_what_is_still_its_own(site: Any) -> None:
    for partition in range(4):
        site.logs.append(partition, 5)
    site.logs.members = [Member("w0", {TOPIC: [0, 1]}), Member("w1", {TOPIC: [2, 3]})]
    await site.standby.warm_up(4)
    assert set(site.standby.positions) == {2, 3}


async def test_who_restarts_while_its_group_rebalances_folds_what_it_has(site: Any) -> None:
    site.disk.written_at = {1: 10.0}
    site.logs.members = [Member("w0", {}), Member("w1", {})]
    await site.standby.warm_up(4)
    assert set(site.standby.positions) == {1}


async def test_who_lost_its_directory_while_its_group_rebalances_folds_all(site: Any) -> None:
    site.logs.members = [Member("w0", {}), Member("w1", {})]
    await site.standby.warm_up(4)
    assert set(site.standby.positions) == {0, 1, 2, 3}


async def test_who_is_left_alone_while_it_folds_ahead_joins_at_once(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "REPORT_S", 0.0)
    site.standby._warm_s = 10 * SECONDS
    site.logs.append(0, 10)
    monkeypatch.setattr(Logs, "end", lambda *_: 10**9)
    site.logs.members = [Member("w0", {}), Member("w1", {})]
    warming = asyncio.create_task(site.standby.warm_up(1))
    await until(lambda: site.standby.positions == {0: {TOPIC: 10}})
    assert not warming.done()
    del site.logs.members[0]
    async with asyncio.timeout(SECONDS):
        await warming


async def test_the_newest_state_is_folded_ahead_first_and_the_time_is_bounded(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []
    site.standby._warm_s = 0.2
    for partition in range(3):
        site.logs.append(partition, NEAR_RECORDS + 1)
    site.disk.written_at = {1: 10.0, 2: 20.0}
    site.logs.members = [Member("w0", {})]
    fold = Kept.apply

    def slowly(self: Kept, topic: str, records: Sequence[Any]) -> None:
        order.append(self.partition)
        fold(self, topic, records[:1] if self.partition == 1 else records)

    monkeypatch.setattr(Kept, "apply", slowly)
    # Partition 1 meets a hole: its follower is dropped. Partition 0 never ends.
    end = Logs.end
    monkeypatch.setattr(Logs, "end", lambda self, partition: end(self, partition) if partition else 10**9)
    began = asyncio.get_running_loop().time()
    await site.standby.warm_up(3)
    assert asyncio.get_running_loop().time() - began < SECONDS / 2
    assert list(dict.fromkeys(order)) == [2, 1, 0]


async def test_no_setting_and_no_broker_stand_in_the_way_of_joining(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> list[Member]:
        raise KafkaConnectionError("away")

    monkeypatch.setattr(warm_up, "members_of", away)
    await site.standby.warm_up(1)
    site.standby._warm_s = 0.0
    await site.standby.warm_up(1)


async def test_it_stops_at_any_time(site: Any) -> None:
    for partition in range(2):
        site.logs.append(partition, 10**6)
    site.logs.members = [Member("w0", {})]
    warming = asyncio.create_task(site.standby.warm_up(2))
    await until(lambda: len(site.process.followers) == 2 and site.standby.folded > 0)
    async with asyncio.timeout(SECONDS):
        await site.standby.stop()
        await warming
        await site.standby.stop()
    assert site.disk.kept[0] == site.process.followers[0].next, "what was folded is kept"


async def test_it_stops_while_an_opening_or_a_write_hangs(site: Any) -> None:
    site.process.opens = asyncio.Event().wait
    site.run()
    site.process.followed = {0}
    await until(lambda: bool(site.disk.open))
    async with asyncio.timeout(SECONDS):
        await site.standby.stop()
    assert not site.disk.open


def test_logs_are_folded_ahead_side_by_side_in_time() -> None:
    topics = ("facts", "decisions")
    following: Any = SimpleNamespace(reached={"facts": 5, "decisions": 9}, times={"facts": 700, "decisions": 650})
    facts, decisions = TopicPartition("facts", 0), TopicPartition("decisions", 0)
    ends = {facts: 10, decisions: 10}
    assert next_log({0: following}, topics, ends, [0]) == decisions
    following.times["decisions"] = 710
    assert next_log({0: following}, topics, ends, [0]) == facts
    following.times["facts"] = 720
    following.reached["decisions"] = 10
    assert next_log({0: following}, topics, ends, [0]) == facts
    following.reached["facts"] = 10
    assert next_log({0: following}, topics, ends, [0]) is None
