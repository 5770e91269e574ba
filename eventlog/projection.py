"""A projection: a read model that folds one or several co-partitioned topics, and nothing else.

State is kept in memory and rebuilt from the logs at every start. Offsets are committed all the same, so that ordinary
tools show its lag, and so that a record that can't be decoded is dead-lettered once and not at every rebuild.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from faust.types import TP

from eventlog.deadletter import Undecodable, bury
from eventlog.errors import NotReady
from eventlog.output import Output
from eventlog.processor import Batch, Connection, Processor, Slices
from eventlog.topics import TopicSpec, dead_letter, partition_of
from eventlog.transport.start import StartPolicy, at_beginning
from eventlog.watch import Watchers

S = TypeVar("S")


class Folding(Protocol[S]):
    """What a domain fills in."""

    def initial(self, key: str) -> S:
        """State of a key that nothing was said about."""
        ...

    def fold(self, state: S, topic: str, record: Any) -> None:
        """Folds a record into the state of its key, in place. Raises Undecodable; any other error stops the process."""
        ...


class _Partition(Generic[S]):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.states: dict[str, S] = {}
        #: Next offset, by topic.
        self.position: dict[str, int] = {}
        #: Offset that each topic must reach before reads are answered; empty until known.
        self.target: dict[str, int] = {}
        #: Offset from which dead letters are new, by topic.
        self.committed: dict[str, int] = {}
        self._caught_up = False

    @property
    def caught_up(self) -> bool:
        """Whether it has reached its targets once; asked for by every read."""
        if not self._caught_up and self.target:
            self._caught_up = all(self.position.get(topic, 0) >= end for topic, end in self.target.items())
        return self._caught_up


class Projection(Processor, Generic[S]):
    """Folds `sources` into states by key. It is also the view of them for reads."""

    def __init__(
        self, group: str, sources: Sequence[TopicSpec], service: str, folding: Folding[S], connection: Connection
    ) -> None:
        self._sources = {source.name: dead_letter(source, service).name for source in sources}
        self._folding = folding
        self._owned: dict[int, _Partition[S]] = {}
        self._committed: dict[TP, int] = {}
        self.watchers = Watchers()
        self.dead_letters: dict[str, int] = {}
        super().__init__(group, list(self._sources), connection)

    @property
    def start_policy(self) -> StartPolicy:  # type: ignore[override]
        """From the beginning, noting what was committed."""

        def start(tp: TP, committed: int | None, begin: int, end: int) -> int:
            self._committed[tp] = committed or 0
            return at_beginning(tp, committed, begin, end)

        return start

    # Reads ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether every partition assigned here has caught up with its topics once."""
        if not self.partitions:
            return False
        assigned = {tp.partition for tp in self.app.consumer.assignment()}
        return bool(assigned or self.epoch) and all(self._readable(partition) for partition in assigned)

    def _readable(self, partition: int) -> _Partition[S] | None:
        """A partition as far as it is ours to say, and has caught up."""
        owned = self._owned.get(partition)
        return owned if owned is not None and owned.epoch == self.read_epoch and owned.caught_up else None

    def get(self, key: str) -> S | None:
        """State of a key, None if nothing was said about it. Raises NotReady when it is not ours to say."""
        partition = partition_of(key, self.partitions) if self.partitions else -1
        owned = self._readable(partition)
        if owned is None:
            raise NotReady(f"{self.group}: partition {partition} is not ready here")
        return owned.states.get(key)

    def position(self, topic: str, partition: int) -> int:
        """Offset of a topic's partition that is folded next."""
        owned = self._owned.get(partition)
        return 0 if owned is None else owned.position.get(topic, 0)

    def ownership_changed(self) -> None:
        """Wakes whoever waits for what may not be ours any more."""
        self.watchers.notify_all()

    # Folding ----------------------------------------------------------------------------------------------------

    async def start(self, partitions: int) -> None:
        """Starts; returns when subscribed, before all is folded: `ready` says when."""
        await super().start(partitions)
        self.spawn(self._watch_targets(), "targets")

    async def _watch_targets(self) -> None:
        """Learns, once in each epoch, how far every partition must come before reads are answered."""
        known = -1
        while True:
            epoch = self.epoch
            tps = list(self.app.consumer.assignment())
            started = tps and all(self.app.consumer.start_of(tp) is not None for tp in tps)
            if epoch != known and started:
                ends = await self.app.consumer.ends(tps)
                if epoch == self.epoch:
                    for tp, end in ends.items():
                        owned = self._partition(tp.partition, epoch)
                        begin = self.app.consumer.start_of(tp) or 0
                        owned.position.setdefault(tp.topic, begin)
                        owned.target[tp.topic] = end
                    known = epoch
                    self.watchers.notify_all()
            await asyncio.sleep(0.05 if epoch != known else 0.5)

    def _partition(self, partition: int, epoch: int) -> _Partition[S]:
        owned = self._owned.get(partition)
        if owned is None or owned.epoch != epoch:
            owned = self._owned[partition] = _Partition(epoch)
            for topic in self._sources:
                owned.committed[topic] = self._committed.get(TP(topic, partition), 0)
        return owned

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Folds a partition batch."""
        owned = self._partition(batch.partition, batch.epoch)
        dead = Output(self.producer, self._sources[batch.topic], batch.partition)
        slices = Slices()
        touched: set[str] = set()
        for count, record in enumerate(batch.records):
            if record.offset < owned.position.get(batch.topic, 0):
                continue
            self._fold(owned, batch, record, dead, touched)
            owned.position[batch.topic] = record.offset + 1
            if not count & 31 and slices.over():
                await slices.breathe()
                if batch.epoch != self.epoch:
                    return None
        for key in touched:
            self.watchers.notify(key)
        return await dead.send()

    def _fold(self, owned: _Partition[S], batch: Batch, record: Any, dead: Output, touched: set[str]) -> None:
        key = (record.key or b"").decode(errors="replace")
        state = owned.states.get(key)
        fresh = state is None
        if state is None:
            state = self._folding.initial(key)
        try:
            self._folding.fold(state, batch.topic, record)
        except Undecodable as error:
            if record.offset >= owned.committed.get(batch.topic, 0):
                bury(dead, self.dead_letters, batch.topic, batch.partition, record, str(error))
            return
        if fresh:
            owned.states[key] = state
        touched.add(key)
