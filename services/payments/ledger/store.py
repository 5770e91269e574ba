"""Where the ledger of a partition is kept: a database of its own, written in whole batches.

What is there is always the books of a prefix of the log: entries, balances, chain and the offset they reach are one
write. Losing the directory loses nothing but the time to fold the log again.

Entries are kept here rather than read from the log again on demand: what a refund by the purse takes money from depends
on what was open before it, so an entry can't be made of its decision alone; and a group's decisions are scattered over
its partition, which has no index by group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NoReturn

from faust.types import TP

from eventlog.consuming.start_policy import within
from eventlog.core.errors import Poisoned, Spoiled
from eventlog.core.partitioner import partition_of
from eventlog.core.skips import IsSkipped, nothing_is_skipped
from eventlog.processors.disk_processor import Ownership
from eventlog.records.packed import Packed
from eventlog.state.database import BATCH, Database, Position, SourcePosition
from services.payments.ledger.journal import Account, Entry, Fold, GroupBooks, Head, LedgerBroken, NotBalanced, parsed
from services.payments.ledger.merkle import Tree
from services.payments.ledger.posting_rules import Open

#: Changes with the meaning of what is kept, which is then folded anew from the log.
STAMP = "ledger-2"
#: Books of groups in memory, of one partition, beside those that wait to be written.
CACHED = 8_192
#: Booked records that are written before more are booked. Fewer are written on the event loop: a thread costs as much.
AT_MOST = 512
FEW = 32
_BOOKS, _DAY, _GROUP, _ENTRY, _INDEX = b"b", b"d", b"g", b"e", b"i"

_KeptGroup = tuple[int, bytes, Open]
_KeptBooks = tuple[int, bytes, list[tuple[str, int, int, int]], int, bool]
_KeptTree = tuple[int, list[bytes]]
_OF_GROUP: Packed[_KeptGroup] = Packed(_KeptGroup)
_OF_BOOKS: Packed[_KeptBooks] = Packed(_KeptBooks)
_OF_TREE: Packed[_KeptTree] = Packed(_KeptTree)


class PartitionBooks(Ownership):
    """Books of one partition: the fold, and what it left to be written. An eventlog.state.follower.Follower."""

    def __init__(
        self,
        partition: int,
        database: Database,
        topic: str,
        cached: int = CACHED,
        is_skipped: IsSkipped = nothing_is_skipped,
        partitions: int = 0,
    ) -> None:
        """With `partitions`, a key that belongs to another partition of so many is refused."""
        super().__init__()
        self._partitions = partitions
        #: Whether the books in memory may be half changed: nothing is written any more.
        self.spoiled = False
        self._is_skipped = is_skipped
        self.partition = partition
        self.topics: Sequence[str] = (topic,)
        self._topic = topic
        self._db = database
        self._half = max(cached // 2, 1)
        self._young: dict[str, GroupBooks] = {}
        self._old: dict[str, GroupBooks] = {}
        self._changed: dict[str, GroupBooks] = {}
        self._batch = database.batch()
        self._last: bytes | None = None
        #: Records that were booked since the last write.
        self.unwritten = 0
        self._writing = asyncio.Lock()
        self._closing = False
        self.fold = Fold(partition, self)
        self._restore()
        #: What reads are answered from: the books as they are on disk.
        self.head = self.fold.head
        self.balances: Mapping[tuple[str, Account], tuple[int, int]] = self._sums()

    def _restore(self) -> None:
        fold, source = self.fold, self._db.position.sources.get(self._topic)
        kept = self._db.get(_BOOKS)
        if source is None or kept is None:
            return
        entries, chained, balances, fold.day, fold.trimmed = _OF_BOOKS.decode(kept)
        fold.head = Head(self.partition, source.next_offset, entries, chained)
        fold.balances = {(currency, Account(one)): [debits, credits_] for currency, one, debits, credits_ in balances}
        tree = self._db.get(_day_row(fold.day))
        if tree is not None:
            fold.days[fold.day] = Tree(*_OF_TREE.decode(tree))

    # What the fold needs of groups ----------------------------------------------------------------------------------

    def get(self, group: str) -> GroupBooks | None:
        """See Groups."""
        found = self._young.get(group) or self._changed.get(group) or self._old.get(group)
        if found is None:
            raw = self._db.get(_GROUP + group.encode())
            if raw is None:
                return None
            found = GroupBooks(*_OF_GROUP.decode(raw))
        self._use(group, found)
        return found

    def put(self, group: str, books: GroupBooks) -> None:
        """See Groups."""
        self._changed[group] = books
        self._use(group, books)

    def _use(self, group: str, books: GroupBooks) -> None:
        # Two generations: what was not used for a whole one is dropped.
        if len(self._young) >= self._half and group not in self._young:
            self._old, self._young = self._young, {}
        self._young[group] = books

    # Booking ----------------------------------------------------------------------------------------------------------

    @property
    def positions(self) -> dict[str, int]:  # type: ignore[override] # made of the fold's own
        """See Follower."""
        at = self.fold.head.next_offset
        return {self._topic: at} if at else {}

    @property
    def caught_up(self) -> bool:
        """See Ownership. What is not on disk yet is not read."""
        return bool(self.target) and self.head.next_offset >= self.target.get(self._topic, 0)

    @property
    def closed(self) -> bool:
        """See Follower."""
        return self._closing or self._db.closed

    def starts_at(self, tp: TP, begin: int, end: int) -> int:
        """See Ownership. Books of a log without its beginning begin in the middle of groups."""
        at = self.fold.head.next_offset
        if at == 0 and begin > 0:
            self.fold.trimmed = True
            self.head = self.fold.head = self.fold.head._replace(next_offset=begin)
            return begin
        return within(tp, at, begin, end)

    def take(self, record: Any) -> None:
        """Books a record of the log; kept once it is written. Raises Poisoned, and Spoiled where the books are half
        changed then."""
        head = self.fold.head
        place = self._topic, self.partition, record.offset, record.value
        try:
            self._check_partition(record)
            entries = self.fold.take(record.offset, record.key, record.value or b"")
        except NotBalanced as error:
            self._spoil(Spoiled.for_record(*place, error), error)
        except LedgerBroken as error:
            if not self._is_skipped(self._topic, self.partition, record):
                self.fold.head = head
                raise Poisoned.for_record(*place, error) from error
            self.fold.head = head._replace(next_offset=record.offset + 1)
            entries = []
        except Exception as error:  # noqa: BLE001 - whatever it is, it came in the middle of the booking
            self._spoil(Spoiled.for_record(*place, repr(error)), error)
        self._last = record.value or b""
        self.unwritten += 1
        if not entries:
            return
        first = entries[0]
        value = b"".join(
            [part for entry in entries for part in (entry.hash, len(entry.raw).to_bytes(4, "big"), entry.raw)]
        )
        offset = first.offset.to_bytes(8, "big")
        self._batch.put(_ENTRY + offset, value)
        self._batch.put(_INDEX + first.group.encode() + b"/" + offset, b"")

    def _check_partition(self, record: Any) -> None:
        key = record.key
        if key is not None and self._partitions:
            right = partition_of(key.decode(errors="replace"), self._partitions)
            if right != self.partition:
                raise LedgerBroken(f"offset {record.offset}: its key belongs to partition {right}")

    def _spoil(self, spoiled: Spoiled, error: Exception) -> NoReturn:
        self.spoiled = True
        raise spoiled from error

    def apply(self, topic: str, records: Sequence[Any]) -> None:
        """See Follower. Raises as `take`."""
        at = self.fold.head.next_offset
        for record in records:
            if record.offset >= at:
                self.take(record)

    # Writing ----------------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """See Follower. Nothing may be booked meanwhile."""
        # Not cancelled in the middle: what a write has taken is in no other place.
        await asyncio.shield(asyncio.ensure_future(self._keep()))

    async def _keep(self) -> None:
        async with self._writing:
            if self.closed or self.spoiled or self.unwritten <= FEW:
                self.flush()
            else:
                batch, position = self._begin_write()
                await asyncio.to_thread(self._db.write, batch, position)
                self._end_write()
            if self._closing:
                self._db.close()

    def flush(self) -> None:
        """Writes what was booked, at once."""
        if self.unwritten and not self.closed and not self.spoiled:
            self._db.write(*self._begin_write())
            self._end_write()

    def _begin_write(self) -> tuple[Any, Position]:
        fold, batch = self.fold, self._batch
        for group, books in self._changed.items():
            batch.put(_GROUP + group.encode(), _OF_GROUP.encode((books.version, books.digest, books.open)))
        for day, tree in fold.days.items():
            batch.put(_day_row(day), _OF_TREE.encode((tree.size, tree.peaks)))
        sums = [(currency, int(account), both[0], both[1]) for (currency, account), both in fold.balances.items()]
        kept = (fold.head.entries, fold.head.hash, sums, fold.day, fold.trimmed)
        batch.put(_BOOKS, _OF_BOOKS.encode(kept))
        self._batch, self.unwritten = self._db.batch(), 0
        last = SourcePosition(fold.head.next_offset, b"" if self._last is None else sha256(self._last).digest())
        return batch, Position({self._topic: last})

    def _end_write(self) -> None:
        fold = self.fold
        self._changed = {}
        # The day never goes back: trees of earlier days are only read, and on disk.
        fold.days = {day: tree for day, tree in fold.days.items() if day == fold.day}
        self.head, self.balances = fold.head, self._sums()

    def _sums(self) -> dict[tuple[str, Account], tuple[int, int]]:
        return {name: (debits, credits_) for name, (debits, credits_) in self.fold.balances.items()}

    def close(self) -> None:
        """See Follower."""
        self._closing = True
        if not self._writing.locked():
            self._db.close()

    # Reading: only what was written -----------------------------------------------------------------------------------

    def days(self) -> Iterator[tuple[int, Tree]]:
        """The tree of each day, by days since the epoch, in order."""
        for row, value in self._db.scan(_DAY):
            yield int.from_bytes(row[1:], "big"), Tree(*_OF_TREE.decode(value))

    def of_group(self, group: str, after: tuple[int, int], most: int) -> list[Entry]:
        """Entries of a group after an offset and number, in order."""
        name = _INDEX + group.encode() + b"/"
        found: list[Entry] = []
        for row, _ in self._rows(name, after, most):
            found += _entries(self._db.get(_ENTRY + row[-8:]) or b"", after)
            if len(found) >= most:
                break
        return found[:most]

    def of_partition(self, after: tuple[int, int], most: int) -> list[Entry]:
        """Entries after an offset and number, in order."""
        found: list[Entry] = []
        for _, value in self._rows(_ENTRY, after, most):
            found += _entries(value, after)
            if len(found) >= most:
                break
        return found[:most]

    def _rows(self, prefix: bytes, after: tuple[int, int], most: int) -> Iterator[tuple[bytes, bytes]]:
        """Rows from an offset on; no more are read at once than are likely to be asked for."""
        at = prefix + max(after[0], 0).to_bytes(8, "big")
        size = min(most + 1, BATCH)
        while True:
            found = self._db.rows(at, prefix, size)
            yield from found
            if len(found) < size:
                return
            at = found[-1][0] + b"\0"


def _day_row(day: int) -> bytes:
    return _DAY + day.to_bytes(4, "big")


def _entries(value: bytes, after: tuple[int, int]) -> Iterator[Entry]:
    at = 0
    while at < len(value):
        size = int.from_bytes(value[at + 32 : at + 36], "big")
        entry = parsed(value[at + 36 : at + 36 + size], value[at : at + 32])
        at += 36 + size
        if (entry.offset, entry.number) > after:
            yield entry
