"""Books every payment decision in double entry, in the order of its partition's log.

It resumes where its database ends, not at the committed offset: entries and offset are one write (store.py). It may lag
behind the log without delaying payments. A database of another log is set aside, and the log is booked from its
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
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime.time_slice import TimeSlice
from eventlog.state.database import Database
from eventlog.state.open_partitions import drop_other_layouts
from services.payments.ledger.journal import Entry, Head
from services.payments.ledger.posting_rules import Account
from services.payments.ledger.store import CACHED_GROUPS, MAX_UNWRITTEN, STAMP, PartitionLedger

#: Records booked between two checks of the time slice.
RECORDS_BATCH = 32


class LedgerProcessor(DiskProcessor[PartitionLedger]):
    """The ledger of the partitions that this process owns, and the view of it for reads."""

    def __init__(self, group: str, log: TopicSpec, connection: Connection) -> None:
        self._log = log.name
        super().__init__(group, (log.name,), STAMP, self._make, connection)

    def _make(self, partition: int, database: Database) -> PartitionLedger:
        return PartitionLedger(
            partition, database, self._log, CACHED_GROUPS // max(self.partitions, 1), self.is_skipped, self.partitions
        )

    # Booking ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """True once started: payments do not wait for the ledger. Its reads raise NotReady until it has caught up."""
        return bool(self.partitions)

    async def start(self, partitions: int) -> None:
        """Starts; returns when subscribed."""
        drop_other_layouts(self._databases, ("books",))
        await super().start(partitions)

    async def _targets_known(self, mine: Collection[int], ends: dict[TP, int]) -> None:
        """See DiskProcessor."""
        await super()._targets_known(mine, ends)
        self._acknowledge_starts()

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Books a partition batch."""
        ledger = self.held_for(batch)
        if ledger is None:
            return None
        slices = TimeSlice()
        for first in range(0, len(batch.records), RECORDS_BATCH):
            try:
                ledger.apply(batch.topic, batch.records[first : first + RECORDS_BATCH])
            except Poisoned as poisoned:
                self.quarantine(poisoned)
                break
            if ledger.unwritten >= MAX_UNWRITTEN:
                await ledger.persist()
            if slices.expired():
                await slices.yield_to_loop()
            if batch.epoch != self.epoch:
                return None
        await ledger.persist()
        return ()

    # Reads ----------------------------------------------------------------------------------------------------------

    def _ledgers(self, partitions: Collection[int] | None) -> list[PartitionLedger]:
        """Ledgers of some partitions or of all, by partition. Raises NotReady unless all are here and caught up."""
        if not self.partitions:
            raise NotReady(f"{self.group}: the number of partitions is not known yet")
        return [self._read(one) for one in sorted(range(self.partitions) if partitions is None else partitions)]

    def balances(self, partitions: Collection[int] | None = None) -> Mapping[tuple[str, Account], tuple[int, int]]:
        """Debits and credits in minor units, by currency and account, of some partitions or all. Raises NotReady."""
        sums: dict[tuple[str, Account], tuple[int, int]] = {}
        for ledger in self._ledgers(partitions):
            for name, (debits, credits_) in ledger.balances.items():
                before = sums.get(name, (0, 0))
                sums[name] = before[0] + debits, before[1] + credits_
        return sums

    def heads(self, partitions: Collection[int] | None = None) -> Sequence[Head]:
        """The position of each of some partitions, or of all, by partition. Raises NotReady."""
        return [ledger.head for ledger in self._ledgers(partitions)]

    def of_group(self, group: str, after: tuple[int, int], limit: int) -> Sequence[Entry]:
        """At most `limit` entries of a group after (offset, number), in order. Raises NotReady."""
        partition = partition_of(group, self.partitions) if self.partitions else -1
        return self._read(partition).of_group(group, after, limit)

    def of_partition(self, partition: int, after: tuple[int, int], limit: int) -> Sequence[Entry]:
        """At most `limit` entries of a partition after (offset, number), in order. Raises NotReady."""
        return self._read(partition).of_partition(after, limit)
