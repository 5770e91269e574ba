"""A processor that keeps the state of its partitions on disk, and has a standby.

A start or a rebalance continues from disk: a partition that stays is not touched, one that moves away is written and
closed, and one that comes is adopted from the standby, or opened and verified against its logs. Reads are answered once
a partition has reached the ends that its topics had when the epoch began.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Generic, Protocol, TypeVar

from aiokafka.errors import IllegalStateError
from faust.types import TP

from eventlog.consuming.start_policy import StartPolicy, log_foreign_commit
from eventlog.core.errors import NotReady, Poisoned, Spoiled
from eventlog.processors.base import Batch, Connection, Processor
from eventlog.processors.standby.standby import standby_for, written_at
from eventlog.state.database import Database
from eventlog.state.follower import Follower
from eventlog.state.open_partitions import OpenPartitions

log = logging.getLogger(__name__)

#: Seconds between two checks of the assignment: while the epoch's targets are unknown, and otherwise.
SHORT_POLL_INTERVAL_S, POLL_INTERVAL_S = 0.05, 0.5


class DiskPartition(Follower, Protocol):
    """A partition on disk, which a standby follows and a processor owns. `Ownership` implements the latter."""

    epoch: int
    target: dict[str, int]
    committed: dict[str, int]
    #: Whether its state in memory may be half changed; then it is not written any more.
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


K = TypeVar("K", bound=DiskPartition)


class DiskProcessor(Processor, Generic[K]):
    """Base of the processors that fold logs into databases."""

    def __init__(
        self, group: str, topics: Sequence[str], stamp: str, make: Callable[[int, Database], K], connection: Connection
    ) -> None:
        """`make` returns the state of a partition from its verified database, which has this `stamp`."""
        self._databases = connection.state_dir / group
        self._open_partitions: OpenPartitions[K] = OpenPartitions(
            connection.kafka, topics, self._databases, stamp, make
        )
        super().__init__(group, topics, connection)
        self.standby = standby_for(self, topics)
        self._open_partitions.adopt = self.standby.adopt

    @property
    def start_policy(self) -> StartPolicy:  # type: ignore[override]
        """The position of a partition's fold; the partition is opened first."""

        async def start(tp: TP, committed: int | None, begin: int, end: int) -> int:
            held = await self._take_over(tp.partition)
            start = held.starts_at(tp, begin, end)
            if committed is not None and committed > end:
                log_foreign_commit(tp, committed, begin, end, start)
                committed = start
            held.committed[tp.topic] = committed or 0
            return start

        return start

    async def _take_over(self, partition: int) -> K:
        """Returns a partition that is ours in this epoch, and opens it if it is not open."""
        epoch = self.epoch
        await self._open_partitions.take({tp.partition for tp in self.app.consumer.assignment()} | {partition})
        held = self._open_partitions.held.get(partition)
        if held is None or epoch != self.epoch:
            # At this error Faust starts its recovery again.
            raise IllegalStateError("rebalanced meanwhile")
        held.enter(epoch)
        return held

    def held_for(self, batch: Batch) -> K | None:
        """The partition of a batch. Reports a partition that is not open in the batch's epoch, and returns None."""
        held = self._open_partitions.held.get(batch.partition)
        if held is not None and held.epoch == batch.epoch:
            return held
        self.report_missing_state(batch)
        return None

    # For the standby --------------------------------------------------------------------------------------------

    async def follow(self, partition: int) -> K:
        """Opens a partition for the standby, verified against its logs. An assignment hands it back."""
        return await self._open_partitions.open(partition)

    def holds(self, partition: int) -> bool:
        """Whether the processor itself has a partition open."""
        return partition in self._open_partitions.held

    def written_at(self, partition: int) -> float:
        """Time of a partition's newest state on disk, in seconds since the epoch; 0 if there is none."""
        return written_at(self._databases / str(partition))

    # Reads ------------------------------------------------------------------------------------------------------

    def _readable(self, partition: int) -> K | None:
        """The partition, if it is ours and has caught up."""
        held = self._open_partitions.held.get(partition)
        return held if held is not None and held.epoch == self.read_epoch and held.caught_up else None

    def _read(self, partition: int) -> K:
        """The partition to read from. Raises NotReady if it is not ours or has not caught up."""
        held = self._readable(partition)
        if held is None:
            raise NotReady(f"{self.group}: partition {partition} is not ready here")
        return held

    # Quarantine -------------------------------------------------------------------------------------------------

    async def resume(self, poisoned: Poisoned) -> Poisoned | None:
        """See Processor. Opens a half-changed partition again, and has it read from its position on disk."""
        partition, epoch = poisoned.partition, self.epoch
        held = self._open_partitions.held.get(partition)
        if held is None or not held.spoiled:
            return None
        again = await self._open_partitions.reopen(partition)
        if epoch == self.epoch:
            again.enter(epoch)
            again.target, again.committed = held.target, held.committed
            self.reread_from(partition, again.positions)
        return None

    def skipped(self, poisoned: Poisoned) -> None:
        """See Processor. The fold itself skips the record, so that its position moves past it."""
        if not isinstance(poisoned, Spoiled):
            self.handle_despite_skip(poisoned)

    # Epochs -----------------------------------------------------------------------------------------------------

    async def start(self, partitions: int) -> None:
        """See Processor. Returns when subscribed, before the logs are folded."""
        await super().start(partitions)
        self.spawn(self._watch_targets(), "targets")

    async def stop(self) -> None:
        """See Processor. Writes and closes the partitions."""
        await super().stop()
        await self._open_partitions.close()
        super().release_state_dir()

    def release_state_dir(self) -> None:
        """Does nothing: `stop` releases the directory, after the databases in it are closed."""

    async def _watch_targets(self) -> None:
        """Sets, once in each epoch, the offsets that every partition must reach before reads are answered."""
        done = -1
        while True:
            epoch = self.epoch
            consumer = self.app.consumer
            tps = list(consumer.assignment())
            started = tps and self.resumed and all(consumer.start_of(tp) is not None for tp in tps)
            if epoch != done and started:
                ends = await consumer.ends(tps)
                if epoch == self.epoch:
                    await self._targets_known({tp.partition for tp in tps}, ends)
                    done = epoch
            elif epoch != done and not tps and self.app.unassigned and not self.app.rebalancing:
                await self._open_partitions.release_others(())
                done = epoch
            await asyncio.sleep(SHORT_POLL_INTERVAL_S if epoch != done else POLL_INTERVAL_S)

    async def _targets_known(self, mine: Collection[int], ends: dict[TP, int]) -> None:
        """Called once in each epoch, with the partitions that are ours and the ends of their topics."""
        for tp, end in ends.items():
            held = self._open_partitions.held.get(tp.partition)
            if held is not None and held.epoch == self.epoch:
                held.target[tp.topic] = end
        await self._open_partitions.release_others(mine)

    def _acknowledge_starts(self) -> None:
        """Commits positions on disk that are beyond the committed offsets. All work before them must be done."""
        for partition, held in self._open_partitions.held.items():
            if held.epoch == self.epoch:
                for topic, committed in held.committed.items():
                    self.app.consumer.acknowledge_start(TP(topic, partition), committed)
