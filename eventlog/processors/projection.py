"""A projection: a read model that folds one or several co-partitioned topics, and nothing else.

State is on disk, a partition a database (projected.py), and the latest states are in memory. A start and a rebalance go
on from there (kept.py). Without its directory a partition is folded from the logs' beginning. Offsets are committed all
the same, so that ordinary tools show its lag, and so that a record that can't be decoded is dead-lettered once and not
at every fold.
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
from eventlog.processors.time_slice import TimeSlice
from eventlog.producing.batch_output import Output
from eventlog.records.dead_letters import send_to_dlq
from eventlog.records.topic_spec import TopicSpec, dead_letter_name
from eventlog.state.database import Database
from eventlog.state.projection_index import Index
from eventlog.state.projection_store import Folding, ProjectionStore
from eventlog.state.undelivered import Undelivered
from eventlog.views.change_notifier import ChangeNotifier

__all__ = ["Folding", "Index", "Projection", "position_key"]

S = TypeVar("S")

#: Decoded states in memory, of all partitions, beside those that wait to be written.
CACHED = 16_384
#: Changed states, of all partitions, that make a write due, and the age that does. Folding waits at twice as many.
UNSAVED = 16_384
AGE_S = 5.0
POLL_INTERVAL_S = 0.25
#: Records folded between two looks at the clock.
PORTION = 32


class Projection(DiskProcessor[ProjectionStore[S]], Generic[S]):
    """Folds `sources` into states by key. It is also the view of them for reads."""

    def __init__(
        self, group: str, sources: Sequence[TopicSpec], service: str, folding: Folding[S], connection: Connection
    ) -> None:
        self._sources = {source.name: dead_letter_name(source.name, service) for source in sources}
        self._folding = folding
        self._written_at: dict[int, float] = {}
        self.notifier = ChangeNotifier()
        self.dead_letters: dict[str, int] = {}
        super().__init__(group, list(self._sources), folding.stamp, self._make, connection)

    def _make(self, number: int, database: Database) -> ProjectionStore[S]:
        cached = CACHED // max(self.partitions, 1)
        return ProjectionStore(
            number, database, self._folding, list(self._sources), cached, self.is_skipped, self.partitions
        )

    # Reads ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether every partition assigned here has caught up with its topics once, but for those that stand still."""
        if not self.partitions:
            return False
        assigned = {tp.partition for tp in self.app.consumer.assignment()}
        waits_for = assigned - self.quarantined.keys()
        return bool(assigned or self.epoch) and all(self._readable(number) for number in waits_for)

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

    async def end(self, topic: str, partition: int) -> int:
        """End of a topic's partition, as the broker has it now. Raises KafkaError."""
        tp = TP(topic, partition)
        found: dict[TP, int] = await self.app.consumer.ends([tp])
        return found[tp]

    def ownership_changed(self) -> None:
        """Wakes whoever waits for what may not be ours any more."""
        self.notifier.notify_all()

    # Folding ----------------------------------------------------------------------------------------------------

    async def start(self, partitions: int) -> None:
        """Starts; returns when subscribed, before all is folded: `ready` says when."""
        await super().start(partitions)
        self.spawn(self._keep_fresh(), "writes")

    async def _began(self, mine: Collection[int], ends: dict[TP, int]) -> None:
        """See DiskProcessor. Dead letters that a standby or a process that died has left are sent."""
        epoch = self.epoch
        await super()._began(mine, ends)
        self.notifier.notify_all()
        left: Collection[asyncio.Future[Any]] = []
        for number in mine:
            held = self._holdings.held.get(number)
            if held is not None:
                for topic in self._sources:
                    # Later ones are sent by `handle`.
                    start = self.app.consumer.start_of(TP(topic, number)) or 0
                    owed = [one for one in held.undelivered(topic) if one.offset < start]
                    left = [*left, *await self._bury(held, topic, owed)]
        while left and epoch == self.epoch:
            _, left = await asyncio.wait(left, timeout=POLL_INTERVAL_S)
        if epoch == self.epoch:
            self._acknowledge_starts()

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
            await asyncio.sleep(POLL_INTERVAL_S)

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Folds a partition batch."""
        held = self._holdings.held.get(batch.partition)
        if held is None or held.epoch != batch.epoch:
            self.report_missing_state(batch)
            return None
        slices = TimeSlice()
        touched: set[str] = set()
        buried: list[Awaitable[Any]] = []
        records = batch.records
        most = 2 * UNSAVED // len(self._holdings.held)
        for first in range(0, len(records), PORTION):
            try:
                held.fold(batch.topic, records[first : first + PORTION], touched)
            except Poisoned as poisoned:
                self.quarantine(poisoned)
            refused = held.refused()
            if refused:
                buried += await self._bury(held, batch.topic, refused)
            if batch.partition in self.quarantined:
                break
            if slices.expired():
                self.notifier.notify(position_key(batch.topic, batch.partition))
                if held.unsaved >= most:
                    await held.keep()
                await slices.yield_to_loop()
            if batch.epoch != self.epoch:
                # Its next owner, or this one in the next epoch, goes on from what is written.
                return None
        for key in touched:
            self.notifier.notify(key)
        self.notifier.notify(position_key(batch.topic, batch.partition))
        return buried

    async def _bury(
        self, held: ProjectionStore[S], topic: str, refused: Sequence[Undelivered]
    ) -> list[asyncio.Future[Any]]:
        """Sends dead letters; each is noted as delivered once the broker has it."""
        futures: list[asyncio.Future[Any]] = []
        for one in refused:
            dead = Output(self.producer, self._sources[topic], held.partition)
            record = SimpleNamespace(offset=one.offset, key=one.key, value=one.value, headers=one.headers)
            send_to_dlq(dead, self.dead_letters, topic, held.partition, record, one.error)
            for future in await dead.send():
                future.add_done_callback(partial(_delivered, held, one.row))
                futures.append(future)
        return futures


def position_key(topic: str, partition: int) -> str:
    """Key under which `notifier` tell that the position of a topic's partition has moved. No record has it."""
    return f"\0{topic}/{partition}"


def _delivered(held: ProjectionStore[Any], row: bytes, _: asyncio.Future[Any]) -> None:
    held.delivered(row)
