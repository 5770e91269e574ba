"""A router without its Faust app over a simulated log, for tests.

`Router.handle` is production code. The log's producer keeps the order of one partition and no order between partitions:
a crash can lose the output of any partition from any point on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

from eventlog.core.errors import Poisoned
from eventlog.core.partitioner import partition_of
from eventlog.core.route_mapper import Routed, RouteMapper, RouteMappers
from eventlog.processors.base import Batch
from eventlog.processors.router import Router

PARTITIONS = 4
SOURCE = "decisions"
TARGET = "inbox"


class Target(NamedTuple):
    """A record that a target received."""

    source: int
    cause: int
    key: str


class NameMapper(RouteMapper, RouteMappers):
    """Routes a decision to the keys in its text, which are separated by spaces. Raises for the text `?`."""

    def __init__(self) -> None:
        self.partition = -1

    def for_partition(self, topic: str, partition: int) -> RouteMapper:
        made = NameMapper()
        made.partition = partition
        return made

    def decode(self, value: bytes, /) -> Any:
        cause, text = value.decode().split("|")
        return SimpleNamespace(cause=int(cause), text=text)

    def routes(self, record: Any) -> Sequence[Routed]:
        found = self.decode(record.value)
        self.decision = found
        if found.text == "?":
            raise ValueError("planted")
        value = b"%d:%d" % (self.partition, found.cause)
        return [Routed(TARGET, key, value) for key in found.text.split()]


def decision(offset: int, cause: int, text: str, key: str) -> Any:
    """A record of a decision log."""
    return SimpleNamespace(
        offset=offset, key=key.encode(), value=f"{cause}|{text}".encode(), headers=[("ce_id", b"1"), ("ce_type", b"T")]
    )


class Broker:
    """The decision logs, the targets' logs in the order of appending, and the committed offsets."""

    def __init__(self) -> None:
        self.decisions: dict[int, list[Any]] = {partition: [] for partition in range(PARTITIONS)}
        self.targets: dict[int, list[Target]] = {partition: [] for partition in range(PARTITIONS)}
        self.committed: dict[int, int] = defaultdict(int)


class SimulatedOutput:
    """Takes the place of Output: `send` queues what was appended behind earlier output to the same partition."""

    def __init__(self, producer: Producer, topic: str, partition: int) -> None:
        self._producer, self._partition = producer, partition
        self._appended: list[Target] = []

    def append(self, key: bytes, value: bytes, headers: Any) -> None:
        source, cause = value.split(b":")
        self._appended.append(Target(int(source), int(cause), key.decode()))

    async def send(self, *, full: bool = False) -> list[asyncio.Future[None]]:
        if full or not self._appended:
            return []
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._producer.queues[self._partition].append((self._appended, acknowledged))
        self._appended = []
        return [acknowledged]


class Producer:
    """One idempotent producer: in order within a partition, in any order between partitions."""

    def __init__(self, broker: Broker, chance: Random) -> None:
        self._broker, self._chance = broker, chance
        self.queues: dict[int, deque[tuple[list[Target], asyncio.Future[None]]]] = defaultdict(deque)

    def deliver_one(self) -> bool:
        """Appends one batch of a random partition. Returns False if there is none."""
        waiting = [partition for partition, queue in self.queues.items() if queue]
        if not waiting:
            return False
        partition = self._chance.choice(waiting)
        records, acknowledged = self.queues[partition].popleft()
        self._broker.targets[partition] += records
        acknowledged.set_result(None)
        return True


class Bare(Router):
    """The processor without its Faust app."""

    epoch = 1
    partitions = PARTITIONS
    producer: Any = None

    def __init__(self, producer: Any = None) -> None:
        self.group = "a.router"
        self.producer = producer
        self._mappers = NameMapper()
        self._chains: Any = SimpleNamespace(begin=self._begin)
        self.routed = 0
        self.stopped: list[Poisoned] = []
        self.skipped_offsets: set[int] = set()
        self.chain: Any = EveryDecision()

    async def _begin(self, *_: Any) -> Any:
        return self.chain

    def quarantine(self, poisoned: Poisoned, epoch: int | None = None) -> None:
        self.stopped.append(poisoned)

    def is_skipped(self, topic: str, partition: int, record: Any) -> bool:
        return record.offset in self.skipped_offsets


class EveryDecision:
    """A chain that has forgotten everything, so it drops no duplicate. The lemma does not rely on it."""

    def follows(self, record: Any, decision: Any) -> bool:
        return True

    def remember(self, record: Any) -> None:
        """Remembers nothing."""


class Process:
    """One router process on one source partition. It reads from the committed offset."""

    def __init__(self, broker: Broker, partition: int, chance: Random) -> None:
        self.partition = partition
        self._broker, self._chance = broker, chance
        self.producer = Producer(broker, chance)
        self._router = Bare(self.producer)
        self._position = broker.committed[partition]
        self._batches: deque[tuple[int, list[Any]]] = deque()
        #: False once the partition has another owner, whose commits alone count.
        self.current = True

    async def step(self) -> bool:
        """Reads a batch, delivers output, or commits. Returns False if there is no work."""
        decisions = self._broker.decisions[self.partition]
        unread = len(decisions) - self._position
        kinds: list[Callable[[], Any]] = []
        if unread:
            kinds.append(self._read)
        if any(self.producer.queues.values()):
            kinds += [self.producer.deliver_one] * 2
        if self._batches and all(one.done() for one in self._batches[0][1]):
            kinds.append(self._commit)
        if not kinds:
            return False
        done = self._chance.choice(kinds)()
        if asyncio.iscoroutine(done):
            await done
        return True

    async def _read(self) -> None:
        decisions = self._broker.decisions[self.partition]
        records = decisions[self._position : self._position + self._chance.choice((1, 1, 2, 5, 20))]
        self._position += len(records)
        written = await self._router.handle(Batch(SOURCE, self.partition, records, 1))
        assert written is not None
        self._batches.append((self._position, list(written)))

    def _commit(self) -> None:
        offset, _ = self._batches.popleft()
        if self.current:
            self._broker.committed[self.partition] = max(offset, self._broker.committed[self.partition])


def key_in(partition: int, number: int) -> str:
    """A key of a partition."""
    return next(key for one in range(1_000) if partition_of(key := f"k{number}.{one}", PARTITIONS) == partition)
