"""Keeps the ledger: books every payment decision in double entry, in the order of its partition's log.

Begins where its own books end, not at the committed offset: books and offset are one write (ledger_store.py). It may
lag behind and never holds up who moves money. Must never book what is not in the log, and stops the process at a log
that is not the one its books were made of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any

from faust.types import TP

from eventlog.crash import die
from eventlog.errors import NotReady
from eventlog.processor import Batch, Connection, Processor, Slices
from eventlog.topics import TopicSpec, partition_of
from eventlog.transport.start import StartPolicy
from services.payments.domain.ledger import Account, Entry, Head
from services.payments.processors.ledger_store import LedgerStore, PartitionBooks

#: Seconds between two looks at whether the assignment changed.
LOOK_S = 0.5


class Ledger(Processor):
    """The ledger of the partitions that this process owns. It is also the view of them for reads."""

    def __init__(self, group: str, log: TopicSpec, connection: Connection) -> None:
        self._log = log.name
        self._store: LedgerStore | None = None
        self._books: dict[int, PartitionBooks] = {}
        #: Offset that a partition must reach before reads are answered, by partition, and the epoch it was learned in.
        self._targets: dict[int, int] = {}
        self._targets_epoch = -1
        super().__init__(group, (log.name,), connection)

    @property
    def start_policy(self) -> StartPolicy:  # type: ignore[override]
        """Where the books of a partition end."""

        def start(tp: TP, committed: int | None, begin: int, end: int) -> int:
            fold = self._of(tp.partition).fold
            at = fold.head.next_offset
            if at == 0 and begin > 0:
                fold.trimmed = True
                return begin
            if not begin <= at <= end:
                die(
                    "the log is not the one that the ledger was made of; delete the ledger's directory to fold it anew",
                    topic=tp.topic,
                    partition=tp.partition,
                    booked=at,
                    begin=begin,
                    end=end,
                )
            return at

        return start

    def _of(self, partition: int) -> PartitionBooks:
        if self._store is None:
            self._store = LedgerStore(self.connection.state_dir / self.group / "books")
        found = self._books.get(partition)
        if found is None:
            found = self._books[partition] = self._store.partition(partition)
        return found

    # Booking ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Always: who moves money does not wait for the ledger. Reads of it are refused until it has caught up."""
        return bool(self.partitions)

    async def start(self, partitions: int) -> None:
        """Starts; returns when subscribed."""
        await super().start(partitions)
        self.spawn(self._watch_targets(), "targets")

    async def stop(self) -> None:
        """Ends, and lets go of the books."""
        await super().stop()
        if self._store is not None:
            self._store.close()

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Books a partition batch."""
        books = self._of(batch.partition)
        slices = Slices()
        for count, record in enumerate(batch.records):
            books.take(record)
            if not count & 31 and slices.over():
                # What is booked is written, so that a read meanwhile finds what the balances say.
                books.flush()
                await slices.breathe()
                if batch.epoch != self.epoch:
                    return None
        books.flush()
        return ()

    async def _watch_targets(self) -> None:
        """Learns, once in each epoch, how far every partition must come before reads are answered."""
        while True:
            epoch = self.epoch
            tps = list(self.app.consumer.assignment())
            if epoch != self._targets_epoch and tps:
                ends = await self.app.consumer.ends(tps)
                if epoch == self.epoch:
                    self._targets = {tp.partition: end for tp, end in ends.items()}
                    self._targets_epoch = epoch
            await asyncio.sleep(LOOK_S / 10 if epoch != self._targets_epoch else LOOK_S)

    # Reads ----------------------------------------------------------------------------------------------------------

    def _of_all(self, partitions: Collection[int] | None) -> list[PartitionBooks]:
        """Books of some partitions or of all, by partition. Raises NotReady while one of them is behind or not here."""
        if not self.partitions:
            raise NotReady(f"{self.group}: the partitions are not known yet")
        return [self._caught_up(one) for one in sorted(range(self.partitions) if partitions is None else partitions)]

    def _caught_up(self, partition: int) -> PartitionBooks:
        target = self._targets.get(partition) if self._targets_epoch == self.read_epoch else None
        if target is None or self._of(partition).fold.head.next_offset < target:
            raise NotReady(f"{self.group}: partition {partition} is not ready here")
        return self._of(partition)

    def balances(self, partitions: Collection[int] | None = None) -> Mapping[tuple[str, Account], tuple[int, int]]:
        """Debits and credits in minor units, by currency and account, of some partitions or all. Raises NotReady."""
        sums: dict[tuple[str, Account], tuple[int, int]] = {}
        for books in self._of_all(partitions):
            for name, (debits, credits_) in books.fold.balances.items():
                before = sums.get(name, (0, 0))
                sums[name] = before[0] + debits, before[1] + credits_
        return sums

    def heads(self, partitions: Collection[int] | None = None) -> Sequence[Head]:
        """How far each of some partitions, or of all, has come, by partition. Raises NotReady."""
        return [books.fold.head for books in self._of_all(partitions)]

    def of_group(self, group: str, after: tuple[int, int], most: int) -> Sequence[Entry]:
        """Entries of a group after an offset and number, in order. Raises NotReady."""
        partition = partition_of(group, self.partitions) if self.partitions else -1
        return self._caught_up(partition).of_group(group, after, most)

    def of_partition(self, partition: int, after: tuple[int, int], most: int) -> Sequence[Entry]:
        """Entries of a partition after an offset and number, in order. Raises NotReady."""
        return self._caught_up(partition).of_partition(after, most)
