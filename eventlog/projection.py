"""A projection: a read model that folds one or several co-partitioned topics, and nothing else.

State is on disk (projected.py), a partition a database, and the latest states are in memory. A start and a rebalance go
on from there: a partition that stays is not touched, one that moved away is written and closed, one that comes is
opened, checked against its logs, and folded from its positions on. Without its directory a partition is folded from
the logs' beginning. Offsets are committed all the same, so that ordinary tools show its lag, and so that a record that
can't be decoded is dead-lettered once and not at every fold.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Collection, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from aiokafka.errors import IllegalStateError
from faust.types import TP

from eventlog.crash import die
from eventlog.database import Database
from eventlog.deadletter import bury
from eventlog.errors import NotReady
from eventlog.follower import Adopt
from eventlog.holding import Holdings
from eventlog.output import Output
from eventlog.processor import Batch, Connection, Processor, Slices
from eventlog.projected import Folding, Index, Projected, Undelivered
from eventlog.topics import TopicSpec, dead_letter, partition_of
from eventlog.transport.start import StartPolicy
from eventlog.watch import Watchers

__all__ = ["Folding", "Index", "Projection"]

log = logging.getLogger(__name__)

S = TypeVar("S")

#: Decoded states in memory, of all partitions, beside those that wait to be written.
CACHED = 16_384
#: Changed states, of all partitions, that make a write due, and the age that does. Folding waits at twice as many.
UNSAVED = 16_384
AGE_S = 5.0
LOOK_S = 0.25
#: Records folded between two looks at the clock.
PORTION = 32


class Projection(Processor, Generic[S]):
    """Folds `sources` into states by key. It is also the view of them for reads."""

    def __init__(
        self, group: str, sources: Sequence[TopicSpec], service: str, folding: Folding[S], connection: Connection
    ) -> None:
        self._sources = {source.name: dead_letter(source, service).name for source in sources}
        self._folding = folding
        directory = connection.state_dir / group
        self._holdings: Holdings[Projected[S]] = Holdings(
            connection.kafka, list(self._sources), directory, folding.stamp, self._make
        )
        self._written_at: dict[int, float] = {}
        self.watchers = Watchers()
        self.dead_letters: dict[str, int] = {}
        super().__init__(group, list(self._sources), connection)

    def _make(self, number: int, database: Database) -> Projected[S]:
        cached = CACHED // max(self.partitions, 1)
        return Projected(number, database, self._folding, list(self._sources), cached)

    @property
    def start_policy(self) -> StartPolicy:  # type: ignore[override]
        """Where the fold of a topic's partition ends; its database is opened first."""

        async def start(tp: TP, committed: int | None, begin: int, end: int) -> int:
            held = await self._entered(tp.partition)
            held.committed[tp.topic] = committed or 0
            at = held.positions.get(tp.topic, 0)
            if at > end:
                # The next start sets the database aside.
                die("the log ends before what was folded of it", topic=tp.topic, partition=tp.partition, at=at, end=end)
            if at < begin:
                if at:
                    log.warning("%s-%s: records from %s to %s are gone before they were folded", *tp, at, begin)
                held.begins_at(tp.topic, begin)
            return held.positions.get(tp.topic, begin)

        return start

    async def _entered(self, number: int) -> Projected[S]:
        """A partition that is ours in this epoch, opened where it was not."""
        epoch = self.epoch
        await self._holdings.take({tp.partition for tp in self.app.consumer.assignment()} | {number})
        held = self._holdings.held.get(number)
        if held is None or epoch != self.epoch:
            # Faust starts its recovery anew at this error.
            raise IllegalStateError("rebalanced meanwhile")
        held.enter(epoch)
        return held

    # Standby ----------------------------------------------------------------------------------------------------

    @property
    def adopt(self) -> Adopt:
        """Asked for a standby's follower of a partition that is assigned here."""
        return self._holdings.adopt

    @adopt.setter
    def adopt(self, adopt: Adopt) -> None:
        self._holdings.adopt = adopt

    async def follow(self, number: int) -> Projected[S]:
        """Opens a partition for a standby, checked against its logs; it comes back through `adopt`."""
        return await self._holdings.open(number)

    def holds(self, number: int) -> bool:
        """Whether a partition is open here for the processor itself."""
        return number in self._holdings.held

    def kept_at(self, number: int) -> float:
        """Time of a partition's newest state on disk, in seconds since the epoch; 0: there is none."""
        return self._holdings.kept_at(number)

    # Reads ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether every partition assigned here has caught up with its topics once."""
        if not self.partitions:
            return False
        assigned = {tp.partition for tp in self.app.consumer.assignment()}
        return bool(assigned or self.epoch) and all(self._readable(number) for number in assigned)

    def _readable(self, number: int) -> Projected[S] | None:
        """A partition as far as it is ours to say, and has caught up."""
        held = self._holdings.held.get(number)
        return held if held is not None and held.epoch == self.read_epoch and held.caught_up else None

    def _read(self, number: int) -> Projected[S]:
        """A partition to read from. Raises NotReady when it is not ours to say."""
        held = self._readable(number)
        if held is None:
            raise NotReady(f"{self.group}: partition {number} is not ready here")
        return held

    def get(self, key: str) -> S | None:
        """State of a key, None if nothing was said about it. Raises NotReady when it is not ours to say."""
        return self._read(partition_of(key, self.partitions) if self.partitions else -1).get(key)

    def page(self, number: int, name: str, after: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """Index rows of a name in one partition, in order; see Index. Raises NotReady."""
        return self._read(number).index.page(name, after, most)

    def position(self, topic: str, partition: int) -> int:
        """Offset of a topic's partition that is folded next."""
        held = self._holdings.held.get(partition)
        return 0 if held is None else held.positions.get(topic, 0)

    def ownership_changed(self) -> None:
        """Wakes whoever waits for what may not be ours any more."""
        self.watchers.notify_all()

    # Folding ----------------------------------------------------------------------------------------------------

    async def start(self, partitions: int) -> None:
        """Starts; returns when subscribed, before all is folded: `ready` says when."""
        await super().start(partitions)
        self.spawn(self._watch_targets(), "targets")
        self.spawn(self._keep_fresh(), "writes")

    async def stop(self) -> None:
        """Ends, and writes what was folded."""
        await super().stop()
        await self._holdings.close()
        super().let_go()

    def let_go(self) -> None:
        """The directory is let go of in `stop`, once the databases in it are written and closed."""

    async def _watch_targets(self) -> None:
        """Learns, once in each epoch, how far every partition must come before reads are answered."""
        known = -1
        while True:
            epoch = self.epoch
            consumer = self.app.consumer
            tps = list(consumer.assignment())
            started = tps and all(consumer.start_of(tp) is not None for tp in tps)
            if epoch != known and started:
                ends = await consumer.ends(tps)
                if epoch == self.epoch:
                    await self._began({tp.partition for tp in tps}, ends)
                    known = epoch
                    self.watchers.notify_all()
            elif epoch != known and not tps and self.app.unassigned and not self.app.rebalancing:
                await self._holdings.release_others(())
                known = epoch
            await asyncio.sleep(0.05 if epoch != known else 0.5)

    async def _began(self, mine: Collection[int], ends: dict[TP, int]) -> None:
        """An epoch's reads and writes may begin."""
        for tp, end in ends.items():
            held = self._holdings.held.get(tp.partition)
            if held is not None and held.epoch == self.epoch:
                held.target[tp.topic] = end
        for number in mine:
            held = self._holdings.held.get(number)
            if held is not None:
                for topic in self._sources:
                    await self._bury(held, topic, held.undelivered(topic))
        await self._holdings.release_others(mine)

    async def _keep_fresh(self) -> None:
        """Writes partitions that have changed much, or a while ago."""
        while True:
            held = list(self._holdings.held.items())
            now = time.monotonic()
            for number, one in held:
                since = self._written_at.setdefault(number, now)
                if one.unsaved >= UNSAVED // len(held) or now - since >= AGE_S:
                    self._written_at[number] = now
                    await one.keep()
            await asyncio.sleep(LOOK_S)

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Folds a partition batch."""
        held = self._holdings.held.get(batch.partition)
        if held is None or held.epoch != batch.epoch:
            self.stateless(batch)
            return None
        slices = Slices()
        touched: set[str] = set()
        buried: list[Awaitable[Any]] = []
        records = batch.records
        most = 2 * UNSAVED // len(self._holdings.held)
        for first in range(0, len(records), PORTION):
            held.fold(batch.topic, records[first : first + PORTION], touched)
            refused = held.refused()
            if refused:
                buried += await self._bury(held, batch.topic, refused)
            if slices.over():
                if held.unsaved >= most:
                    await held.keep()
                await slices.breathe()
            if batch.epoch != self.epoch:
                # Its next owner, or this one in the next epoch, goes on from what is written.
                return None
        for key in touched:
            self.watchers.notify(key)
        return buried

    async def _bury(self, held: Projected[S], topic: str, refused: Sequence[Undelivered]) -> list[asyncio.Future[Any]]:
        """Sends dead letters; each is noted as delivered once the broker has it."""
        futures: list[asyncio.Future[Any]] = []
        for one in refused:
            dead = Output(self.producer, self._sources[topic], held.partition)
            record = SimpleNamespace(offset=one.offset, key=one.key, value=one.value, headers=one.headers)
            bury(dead, self.dead_letters, topic, held.partition, record, one.error)
            for future in await dead.send():
                future.add_done_callback(partial(_delivered, held, one.row))
                futures.append(future)
        return futures


def _delivered(held: Projected[Any], row: bytes, _: asyncio.Future[Any]) -> None:
    held.delivered(row)
