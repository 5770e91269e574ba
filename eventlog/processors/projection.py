"""A projection: a read model, the fold of one or more co-partitioned topics.

Each partition is a database with the latest states in memory; a start or a rebalance continues from it
(disk_processor.py). Without its directory a partition is folded from the beginning of the logs. Offsets are committed
nevertheless: ordinary tools show the lag by them, and a record that can't be decoded is dead-lettered once and not at
every fold.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from faust.types import TP

from eventlog.core.errors import Poisoned
from eventlog.core.partitioner import partition_of
from eventlog.processors.base import Batch, Connection
from eventlog.processors.disk_processor import DiskProcessor
from eventlog.producing.batch_output import Output
from eventlog.records.dead_letters import send_to_dlq
from eventlog.records.topic_spec import TopicSpec, dead_letter_name
from eventlog.runtime.time_slice import TimeSlice
from eventlog.state.database import Database
from eventlog.state.projection_index import Index
from eventlog.state.projection_store import Folding, ProjectionStore
from eventlog.state.undelivered import Undelivered
from eventlog.views.change_notifier import ChangeNotifier

__all__ = ["Folding", "Index", "Projection", "position_key"]

S = TypeVar("S")

#: Decoded states in memory, of all partitions, in addition to those that wait to be written.
CACHED_STATES = 16_384
#: Changed states, of all partitions, that make a write due. At twice as many, folding waits for the write.
MAX_UNSAVED = 16_384
#: Age of a change, in seconds, that makes a write due.
MAX_UNSAVED_S = 5.0
POLL_INTERVAL_S = 0.25
#: Records folded between two checks of the time slice.
FOLD_BATCH = 32


class Projection(DiskProcessor[ProjectionStore[S]], Generic[S]):
    """Folds `sources` into states by key, and serves reads of them."""

    def __init__(
        self, group: str, sources: Sequence[TopicSpec], service: str, folding: Folding[S], connection: Connection
    ) -> None:
        self._sources = {source.name: dead_letter_name(source.name, service) for source in sources}
        self._folding = folding
        self._written_at: dict[int, float] = {}
        self.notifier = ChangeNotifier()
        super().__init__(group, list(self._sources), folding.stamp, self._make, connection)

    def _make(self, partition: int, database: Database) -> ProjectionStore[S]:
        cached = CACHED_STATES // max(self.partitions, 1)
        return ProjectionStore(
            partition, database, self._folding, list(self._sources), cached, self.is_skipped, self.partitions
        )

    # Reads ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether every partition assigned here has caught up with its topics once, or is quarantined."""
        if not self.partitions:
            return False
        assigned = {tp.partition for tp in self.app.consumer.assignment()}
        expected = assigned - self.quarantined.keys()
        return bool(assigned or self.epoch) and all(self._readable(partition) for partition in expected)

    def get(self, key: str) -> S | None:
        """The state of a key, or None if it has no record. Raises NotReady if its partition can't be read here."""
        return self._read(partition_of(key, self.partitions) if self.partitions else -1).get(key)

    def page(self, partition: int, name: str, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Index rows of a name in one partition, in order; see Index. Raises NotReady."""
        return self._read(partition).index.page(name, after, limit)

    def position(self, topic: str, partition: int) -> int:
        """The offset of a topic's partition that is folded next."""
        held = self._open_partitions.held.get(partition)
        return 0 if held is None else held.positions.get(topic, 0)

    async def end(self, topic: str, partition: int) -> int:
        """The end of a topic's partition, from the broker. Raises KafkaError."""
        tp = TP(topic, partition)
        found: dict[TP, int] = await self.app.consumer.ends([tp])
        return found[tp]

    def ownership_changed(self) -> None:
        """Wakes all waiters: their partitions may have moved."""
        self.notifier.notify_all()

    # Folding ----------------------------------------------------------------------------------------------------

    async def start(self, partitions: int) -> None:
        """See Processor. Returns when subscribed, before the topics are folded."""
        await super().start(partitions)
        self.spawn(self._write_regularly(), "writes")

    async def _targets_known(self, mine: Collection[int], ends: dict[TP, int]) -> None:
        """See DiskProcessor. Sends dead letters that a standby or a crashed process has not sent."""
        epoch = self.epoch
        await super()._targets_known(mine, ends)
        self.notifier.notify_all()
        unacknowledged: Collection[asyncio.Future[Any]] = []
        for partition in mine:
            held = self._open_partitions.held.get(partition)
            if held is not None:
                for topic in self._sources:
                    # `handle` sends those from `start` on.
                    start = max(self.app.consumer.start_of(TP(topic, partition)) or 0, held.opened_at.get(topic, 0))
                    unsent = [one for one in held.undelivered(topic) if one.offset < start]
                    unacknowledged = [*unacknowledged, *await self._send_dead_letters(held, topic, unsent)]
        while unacknowledged and epoch == self.epoch:
            _, unacknowledged = await asyncio.wait(unacknowledged, timeout=POLL_INTERVAL_S)
        if epoch == self.epoch:
            self._acknowledge_starts()

    async def _write_regularly(self) -> None:
        """Writes partitions with many or old changes."""
        while True:
            held = list(self._open_partitions.held.items())
            now = time.monotonic()
            for partition, one in held:
                since = self._written_at.setdefault(partition, now)
                if one.unsaved >= MAX_UNSAVED // len(held) or now - since >= MAX_UNSAVED_S:
                    self._written_at[partition] = now
                    await one.persist()
            await asyncio.sleep(POLL_INTERVAL_S)

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Folds a batch."""
        held = self.held_for(batch)
        if held is None:
            return None
        slices = TimeSlice()
        touched: set[str] = set()
        dead_letters: list[Awaitable[Any]] = []
        records = batch.records
        max_unsaved = 2 * MAX_UNSAVED // len(self._open_partitions.held)
        for first in range(0, len(records), FOLD_BATCH):
            try:
                held.fold(batch.topic, records[first : first + FOLD_BATCH], touched)
            except Poisoned as poisoned:
                self.quarantine(poisoned)
            undecodable = held.refused()
            if undecodable:
                dead_letters += await self._send_dead_letters(held, batch.topic, undecodable)
            if batch.partition in self.quarantined:
                break
            if slices.expired():
                self.notifier.notify(position_key(batch.topic, batch.partition))
                if held.unsaved >= max_unsaved:
                    await held.persist()
                await slices.yield_to_loop()
            if batch.epoch != self.epoch:
                # The partition's next owner continues from the state on disk.
                return None
        for key in touched:
            self.notifier.notify(key)
        self.notifier.notify(position_key(batch.topic, batch.partition))
        return dead_letters

    async def _send_dead_letters(
        self, held: ProjectionStore[S], topic: str, records: Sequence[Undelivered]
    ) -> list[asyncio.Future[Any]]:
        """Sends dead letters, and marks each as delivered once the broker has acknowledged it."""
        futures: list[asyncio.Future[Any]] = []
        for one in records:
            dead = Output(self.producer, self._sources[topic], held.partition)
            record = SimpleNamespace(offset=one.offset, key=one.key, value=one.value, headers=one.headers)
            send_to_dlq(dead, self.dead_letters, topic, held.partition, record, one.error)
            for future in await dead.send():
                future.add_done_callback(partial(_delivered, held, one.row))
                futures.append(future)
        return futures


def position_key(topic: str, partition: int) -> str:
    """The key that `notifier` notifies when the position of a topic's partition has advanced. No record has it."""
    return f"\0{topic}/{partition}"


def _delivered(held: ProjectionStore[Any], row: bytes, _: asyncio.Future[Any]) -> None:
    held.delivered(row)
