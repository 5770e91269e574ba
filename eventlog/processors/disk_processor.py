"""A processor that keeps its partitions on disk, for itself and for its standby.

A start and a rebalance go on from there: a partition that stays is not touched, one that moved away is written and
closed, one that comes is taken over from the standby, or opened and checked against its logs (holding.py). Reads are
answered once a partition has reached the ends that its topics had when the epoch began.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Generic, Protocol, TypeVar

from aiokafka.errors import IllegalStateError
from faust.types import TP

from eventlog.consuming.start_policy import StartPolicy, log_foreign_commit
from eventlog.core.errors import NotReady, Poisoned, Spoiled
from eventlog.processors.base import Connection, Processor
from eventlog.processors.standby.standby import standby_for, written_at
from eventlog.state.database import Database
from eventlog.state.follower import Follower
from eventlog.state.open_partitions import OpenPartitions

log = logging.getLogger(__name__)

#: Seconds between two looks at whether the assignment changed: while one is awaited, and otherwise.
SOON_S, POLL_INTERVAL_S = 0.05, 0.5


class Ownership:
    """What a kept partition knows of its owner: in which epoch it may be read, and from which offsets on."""

    positions: dict[str, int]

    def __init__(self) -> None:
        self.epoch = -1
        #: Offset that each topic must reach before reads are answered; empty until known.
        self.target: dict[str, int] = {}
        #: Offset from which dead letters are new, by topic.
        self.committed: dict[str, int] = {}
        self._caught_up = False

    def enter(self, epoch: int) -> None:
        """The partition is ours in this epoch; reads wait for new targets."""
        if self.epoch != epoch:
            self.epoch = epoch
            self.target, self.committed = {}, {}
            self._caught_up = False

    @property
    def caught_up(self) -> bool:
        """Whether it has reached its targets once in this epoch; asked for by every read."""
        if not self._caught_up and self.target:
            self._caught_up = all(self.positions.get(topic, 0) >= end for topic, end in self.target.items())
        return self._caught_up

    @abstractmethod
    def starts_at(self, tp: TP, begin: int, end: int) -> int:
        """Offset from which a topic is read, of a log from `begin` to `end`. Ends the process where the log is cut."""


class Kept(Follower, Protocol):
    """A partition that can be followed and owned; eventlog.processors.disk_processor.Ownership is the half of it."""

    epoch: int
    target: dict[str, int]
    committed: dict[str, int]
    #: Whether it may be half changed in memory, and so is not written any more.
    spoiled: bool

    def enter(self, epoch: int, /) -> None:
        """See Ownership."""
        ...

    @property
    def caught_up(self) -> bool:
        """See Ownership."""
        ...

    def starts_at(self, tp: TP, begin: int, end: int, /) -> int:
        """See Ownership."""
        ...


K = TypeVar("K", bound=Kept)


class DiskProcessor(Processor, Generic[K]):
    """Base of projections and the ledger."""

    def __init__(
        self, group: str, topics: Sequence[str], stamp: str, make: Callable[[int, Database], K], connection: Connection
    ) -> None:
        """`make` makes the state of a partition from its verified database; `stamp` is the database's."""
        self._kept_in = connection.state_dir / group
        self._holdings: OpenPartitions[K] = OpenPartitions(connection.kafka, topics, self._kept_in, stamp, make)
        super().__init__(group, topics, connection)
        self.standby = standby_for(self, topics)
        self._holdings.adopt = self.standby.adopt

    @property
    def start_policy(self) -> StartPolicy:  # type: ignore[override]
        """Where the fold of a topic's partition ends; its database is opened first."""

        async def start(tp: TP, committed: int | None, begin: int, end: int) -> int:
            held = await self._entered(tp.partition)
            start = held.starts_at(tp, begin, end)
            if committed is not None and committed > end:
                log_foreign_commit(tp, committed, begin, end, start)
                committed = start
            held.committed[tp.topic] = committed or 0
            return start

        return start

    async def _entered(self, number: int) -> K:
        """A partition that is ours in this epoch, opened where it was not."""
        epoch = self.epoch
        await self._holdings.take({tp.partition for tp in self.app.consumer.assignment()} | {number})
        held = self._holdings.held.get(number)
        if held is None or epoch != self.epoch:
            # Faust starts its recovery anew at this error.
            raise IllegalStateError("rebalanced meanwhile")
        held.enter(epoch)
        return held

    # For the standby --------------------------------------------------------------------------------------------

    async def follow(self, partition: int) -> K:
        """Opens a partition for the standby, checked against its logs; it comes back at an assignment."""
        return await self._holdings.open(partition)

    def holds(self, partition: int) -> bool:
        """Whether a partition is open here for the processor itself."""
        return partition in self._holdings.held

    def written_at(self, partition: int) -> float:
        """Time of a partition's newest state on disk, in seconds since the epoch; 0: there is none."""
        return written_at(self._kept_in / str(partition))

    # Reads ------------------------------------------------------------------------------------------------------

    def _readable(self, partition: int) -> K | None:
        """A partition as far as it is ours to say, and has caught up."""
        held = self._holdings.held.get(partition)
        return held if held is not None and held.epoch == self.read_epoch and held.caught_up else None

    def _read(self, partition: int) -> K:
        """A partition to read from. Raises NotReady when it is not ours to say."""
        held = self._readable(partition)
        if held is None:
            raise NotReady(f"{self.group}: partition {partition} is not ready here")
        return held

    # Quarantine -------------------------------------------------------------------------------------------------

    async def resume(self, poisoned: Poisoned) -> Poisoned | None:
        """See Processor. A partition that is half changed in memory is opened again, and read from there on."""
        partition, epoch = poisoned.partition, self.epoch
        held = self._holdings.held.get(partition)
        if held is None or not held.spoiled:
            return None
        again = await self._holdings.reopen(partition)
        if epoch == self.epoch:
            again.enter(epoch)
            again.target, again.committed = held.target, held.committed
            self.reread_from(partition, again.positions)
        return None

    def skipped(self, poisoned: Poisoned) -> None:
        """See Processor. The fold passes over the record by itself, so that its position moves on behind it."""
        if not isinstance(poisoned, Spoiled):
            self.handle_despite_skip(poisoned)

    # Epochs -----------------------------------------------------------------------------------------------------

    async def start(self, partitions: int) -> None:
        """Starts; returns when subscribed, before all is folded."""
        await super().start(partitions)
        self.spawn(self._watch_targets(), "targets")

    async def stop(self) -> None:
        """Ends, and writes what was folded."""
        await super().stop()
        await self._holdings.close()
        super().release_state_dir()

    def release_state_dir(self) -> None:
        """The directory is let go of in `stop`, once the databases in it are written and closed."""

    async def _watch_targets(self) -> None:
        """Learns, once in each epoch, how far every partition must come before reads are answered."""
        known = -1
        while True:
            epoch = self.epoch
            consumer = self.app.consumer
            tps = list(consumer.assignment())
            started = tps and self.resumed and all(consumer.start_of(tp) is not None for tp in tps)
            if epoch != known and started:
                ends = await consumer.ends(tps)
                if epoch == self.epoch:
                    await self._began({tp.partition for tp in tps}, ends)
                    known = epoch
            elif epoch != known and not tps and self.app.unassigned and not self.app.rebalancing:
                await self._holdings.release_others(())
                known = epoch
            await asyncio.sleep(SOON_S if epoch != known else POLL_INTERVAL_S)

    async def _began(self, mine: Collection[int], ends: dict[TP, int]) -> None:
        """The ends of all that is ours in this epoch are known."""
        for tp, end in ends.items():
            held = self._holdings.held.get(tp.partition)
            if held is not None and held.epoch == self.epoch:
                held.target[tp.topic] = end
        await self._holdings.release_others(mine)

    def _acknowledge_starts(self) -> None:
        """Has positions on disk committed that are beyond the committed offsets; all before them must be done."""
        for number, held in self._holdings.held.items():
            if held.epoch == self.epoch:
                for topic, committed in held.committed.items():
                    self.app.consumer.acknowledge_start(TP(topic, number), committed)
