"""Keeps the ledger: books every payment decision in double entry, in the order of its partition's log.

Begins where its own books end, not at the committed offset: books and offset are one write (ledger_store.py). It may
lag behind and never holds up who moves money. Books of another log are set aside, and the log is booked from its
beginning.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any

from faust.types import TP

from eventlog.core.errors import NotReady, Poisoned
from eventlog.core.partitioner import partition_of
from eventlog.processors.base import Batch, Connection
from eventlog.processors.disk_processor import DiskProcessor
from eventlog.processors.time_slice import TimeSlice
from eventlog.records.topic_spec import TopicSpec
from eventlog.state.database import Database
from eventlog.state.open_partitions import drop_other_layouts
from services.payments.ledger.journal import Account, Entry, Head
from services.payments.ledger.store import AT_MOST, CACHED, STAMP, PartitionBooks

#: Records booked between two looks at the clock.
PORTION = 32


class Ledger(DiskProcessor[PartitionBooks]):
    """The ledger of the partitions that this process owns. It is also the view of them for reads."""

    def __init__(self, group: str, log: TopicSpec, connection: Connection) -> None:
        self._log = log.name
        super().__init__(group, (log.name,), STAMP, self._make, connection)

    def _make(self, partition: int, database: Database) -> PartitionBooks:
        return PartitionBooks(
            partition, database, self._log, CACHED // max(self.partitions, 1), self.is_skipped, self.partitions
        )

    # Booking ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Always: who moves money does not wait for the ledger. Reads of it are refused until it has caught up."""
        return bool(self.partitions)

    async def start(self, partitions: int) -> None:
        """Starts; returns when subscribed."""
        drop_other_layouts(self._kept_in, ("books",))
        await super().start(partitions)

    async def _began(self, mine: Collection[int], ends: dict[TP, int]) -> None:
        """See DiskProcessor."""
        await super()._began(mine, ends)
        self._acknowledge_starts()

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Books a partition batch."""
        books = self._holdings.held.get(batch.partition)
        if books is None or books.epoch != batch.epoch:
            self.report_missing_state(batch)
            return None
        slices = TimeSlice()
        for first in range(0, len(batch.records), PORTION):
            try:
                books.apply(batch.topic, batch.records[first : first + PORTION])
            except Poisoned as poisoned:
                self.quarantine(poisoned)
                break
            if books.unwritten >= AT_MOST:
                await books.keep()
            if slices.expired():
                await slices.yield_to_loop()
            if batch.epoch != self.epoch:
                return None
        await books.keep()
        return ()

    # Reads ----------------------------------------------------------------------------------------------------------

    def _of_all(self, partitions: Collection[int] | None) -> list[PartitionBooks]:
        """Books of some partitions or of all, by partition. Raises NotReady while one of them is behind or not here."""
        if not self.partitions:
            raise NotReady(f"{self.group}: the partitions are not known yet")
        return [self._read(one) for one in sorted(range(self.partitions) if partitions is None else partitions)]

    def balances(self, partitions: Collection[int] | None = None) -> Mapping[tuple[str, Account], tuple[int, int]]:
        """Debits and credits in minor units, by currency and account, of some partitions or all. Raises NotReady."""
        sums: dict[tuple[str, Account], tuple[int, int]] = {}
        for books in self._of_all(partitions):
            for name, (debits, credits_) in books.balances.items():
                before = sums.get(name, (0, 0))
                sums[name] = before[0] + debits, before[1] + credits_
        return sums

    def heads(self, partitions: Collection[int] | None = None) -> Sequence[Head]:
        """How far each of some partitions, or of all, has come, by partition. Raises NotReady."""
        return [books.head for books in self._of_all(partitions)]

    def of_group(self, group: str, after: tuple[int, int], most: int) -> Sequence[Entry]:
        """Entries of a group after an offset and number, in order. Raises NotReady."""
        partition = partition_of(group, self.partitions) if self.partitions else -1
        return self._read(partition).of_group(group, after, most)

    def of_partition(self, partition: int, after: tuple[int, int], most: int) -> Sequence[Entry]:
        """Entries of a partition after an offset and number, in order. Raises NotReady."""
        return self._read(partition).of_partition(after, most)
