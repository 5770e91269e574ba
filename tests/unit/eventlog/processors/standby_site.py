"""A standby beside logs in memory, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from eventlog.broker.group_members import Member
from eventlog.core.errors import InvariantViolation
from eventlog.processors.standby import log_reader, standby, warm_up
from eventlog.processors.standby.standby import Standby
from tests.waiting import wait_for_async

TOPIC = "shop.log.v1"
SECONDS = 10
WARM_S = 5.0


class Record(NamedTuple):
    offset: int
    value: bytes
    #: Milliseconds since the epoch.
    timestamp: int = 0


class Logs:
    """The partitions of one topic, and the consumers that read them."""

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
    """The part of aiokafka's consumer that a standby uses."""

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
    """The databases of a process; each is open once at most."""

    def __init__(self) -> None:
        self.written: dict[int, int] = {}
        self.open: set[int] = set()
        self.written_at: dict[int, float] = {}


class CountingFollower:
    """A follower that counts the records of one partition."""

    def __init__(self, disk: Disk, partition: int) -> None:
        assert partition not in disk.open, "opened twice"
        disk.open.add(partition)
        self._disk = disk
        self.partition = partition
        self.topics = (TOPIC,)
        self.next = disk.written.get(partition, 0)
        self.closed = False
        self.writing = False
        self.most_unwritten = self._unwritten = 0
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
        self.most_unwritten = max(self.most_unwritten, self._unwritten)

    async def persist(self) -> None:
        assert not self.closed
        self.writing = True
        at, self._unwritten = self.next, 0
        await self.write()
        self._disk.written[self.partition] = at
        self.writing = False

    def close(self) -> None:
        assert not self.writing, "closed during a write"
        if not self.closed:
            self.closed = True
            self._disk.open.discard(self.partition)


class Host:
    """The processor of a standby."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.followed: set[int] | None = None
        self.owned: set[int] = set()
        self.open_here: set[int] = set()
        self.followers: list[CountingFollower] = []
        self.fails: dict[int, Exception] = {}
        self.opens: Callable[[], Any] = lambda: asyncio.sleep(0)
        self.write: Callable[[], Any] = lambda: asyncio.sleep(0)
        self.poisoned: dict[int, int] = {}

    def owns(self, partition: int) -> bool:
        return partition in self.owned

    def holds(self, partition: int) -> bool:
        return partition in self.open_here

    def written_at(self, partition: int) -> float:
        return self.disk.written_at.get(partition, 0.0)

    async def follow(self, partition: int) -> CountingFollower:
        if partition in self.fails:
            raise self.fails[partition]
        follower = CountingFollower(self.disk, partition)
        follower.write = self.write
        follower.poison = self.poisoned.get(partition, -1)
        try:
            await self.opens()
        except BaseException:
            follower.close()
            raise
        self.followers.append(follower)
        return follower


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
    assert all(consumer.stopped for consumer in made.consumers), "a consumer was not stopped"


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    assert not made.open, "a database was left open"


@pytest.fixture
async def site(logs: Logs, disk: Disk) -> AsyncIterator[SimpleNamespace]:
    host = Host(disk)
    made = Standby("shop.decider", "w1", (TOPIC,), "broker", host, warm_s=WARM_S)
    running: list[asyncio.Task[None]] = []

    def run() -> None:
        running.append(asyncio.get_running_loop().create_task(made.run()))

    yield SimpleNamespace(logs=logs, disk=disk, host=host, standby=made, run=run)
    await made.stop()
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*running)


async def until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await wait_for_async(holds, seconds=SECONDS, every=0.002)
