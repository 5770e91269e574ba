"""The ledger of one partition in a database of its own.

The database always holds the ledger of a prefix of the log: entries, balances, hash chain and offset are one write. If
the directory is lost, the log is folded again.

Entries are stored, not derived from the log on demand, for two reasons. The accounts of a refund without a command
depend on the amounts open before it, so an entry can't be derived from its decision alone. And the log has no index by
group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NoReturn

from faust.types import TP

from eventlog.consuming.start_policy import check_in_log
from eventlog.core.errors import Poisoned, Spoiled
from eventlog.core.partitioner import partition_of
from eventlog.core.skips import IsSkipped, nothing_is_skipped
from eventlog.records.log_position import SourcePosition
from eventlog.records.packed import Packed
from eventlog.state.database import BATCH, Database, Position
from eventlog.state.generation_cache import GenerationCache
from eventlog.state.ownership import Ownership
from services.payments.ledger.journal import Entry, GroupState, Head, Journal, LedgerBroken, NotBalanced, parse_entry
from services.payments.ledger.merkle import Tree
from services.payments.ledger.posting_rules import Account, OpenAmounts

#: Changes with the meaning or the layout of stored rows; the log is then folded again.
STAMP = "ledger-2"
#: States of groups in the cache of one partition, besides those not written yet.
CACHED_GROUPS = 8_192
#: Unwritten records that force a write before more are booked.
MAX_UNWRITTEN = 512
#: Records whose write costs less than a thread switch, so they are written on the event loop.
MAX_INLINE_WRITE = 32
_TOTALS, _DAY, _GROUP, _ENTRY, _INDEX = b"b", b"d", b"g", b"e", b"i"

_GroupRow = tuple[int, bytes, OpenAmounts]
_TotalsRow = tuple[int, bytes, list[tuple[str, int, int, int]], int, bool]
_TreeRow = tuple[int, list[bytes]]
_GROUP_CODEC: Packed[_GroupRow] = Packed(_GroupRow)
_TOTALS_CODEC: Packed[_TotalsRow] = Packed(_TotalsRow)
_TREE_CODEC: Packed[_TreeRow] = Packed(_TreeRow)


class PartitionLedger(Ownership):
    """The journal of one partition, its unwritten rows and its database. An eventlog.state.follower.Follower."""

    def __init__(
        self,
        partition: int,
        database: Database,
        topic: str,
        cached: int = CACHED_GROUPS,
        is_skipped: IsSkipped = nothing_is_skipped,
        partitions: int = 0,
    ) -> None:
        """With the number of `partitions`, a record whose key belongs to another partition raises."""
        super().__init__()
        self._partitions = partitions
        #: Whether the state in memory may be partly updated, after which nothing is written any more.
        self.spoiled = False
        self._is_skipped = is_skipped
        self.partition = partition
        self.topics: Sequence[str] = (topic,)
        self._topic = topic
        self._db = database
        self._cache: GenerationCache[GroupState] = GenerationCache(cached)
        self._changed: dict[str, GroupState] = {}
        self._batch = database.batch()
        self._last: bytes | None = None
        #: Records booked since the last write.
        self.unwritten = 0
        self._writing = asyncio.Lock()
        self._closing = False
        self.journal = Journal(partition, self)
        self._restore()
        #: Read by queries: the state as it is on disk.
        self.head = self.journal.head
        self.balances: Mapping[tuple[str, Account], tuple[int, int]] = self._sums()

    def _restore(self) -> None:
        journal, source = self.journal, self._db.position.sources.get(self._topic)
        kept = self._db.get(_TOTALS)
        if source is None or kept is None:
            return
        entries, chained, balances, journal.day, journal.trimmed = _TOTALS_CODEC.decode(kept)
        journal.head = Head(self.partition, source.next_offset, entries, chained)
        journal.balances = {
            (currency, Account(one)): [debits, credits_] for currency, one, debits, credits_ in balances
        }
        tree = self._db.get(_day_row(journal.day))
        if tree is not None:
            journal.days[journal.day] = Tree(*_TREE_CODEC.decode(tree))

    # Group states, for the journal ----------------------------------------------------------------------------------

    def get(self, group: str) -> GroupState | None:
        """See GroupStore."""
        found = self._cache.young.get(group) or self._changed.get(group) or self._cache.old.get(group)
        if found is None:
            raw = self._db.get(_GROUP + group.encode())
            if raw is None:
                return None
            found = GroupState(*_GROUP_CODEC.decode(raw))
        self._cache.use(group, found)
        return found

    def put(self, group: str, state: GroupState) -> None:
        """See GroupStore."""
        self._changed[group] = state
        self._cache.use(group, state)

    # Booking ----------------------------------------------------------------------------------------------------------

    @property
    def positions(self) -> dict[str, int]:  # type: ignore[override] # derived from the journal's head
        """See Follower."""
        at = self.journal.head.next_offset
        return {self._topic: at} if at else {}

    @property
    def caught_up(self) -> bool:
        """See Ownership. Reads see only what is on disk."""
        return bool(self.target) and self.head.next_offset >= self.target.get(self._topic, 0)

    @property
    def closed(self) -> bool:
        """See Follower."""
        return self._closing or self._db.closed

    def starts_at(self, tp: TP, begin: int, end: int) -> int:
        """See Ownership. If the beginning of the log is deleted, groups start at any version."""
        at = self.journal.head.next_offset
        if at == 0 and begin > 0:
            self.journal.trimmed = True
            self.head = self.journal.head = self.journal.head._replace(next_offset=begin)
            return begin
        return check_in_log(tp, at, begin, end)

    def take(self, record: Any) -> None:
        """Books a record; `persist` writes it. Raises Poisoned, and Spoiled if the state is partly updated."""
        head = self.journal.head
        place = self._topic, self.partition, record.offset, record.value
        try:
            self._check_partition(record)
            entries = self.journal.book(record.offset, record.key, record.value or b"")
        except NotBalanced as error:
            self._spoil(Spoiled.for_record(*place, error), error)
        except LedgerBroken as error:
            if not self._is_skipped(self._topic, self.partition, record):
                self.journal.head = head
                raise Poisoned.for_record(*place, error) from error
            self.journal.head = head._replace(next_offset=record.offset + 1)
            entries = []
        except Exception as error:  # noqa: BLE001 - any error may have interrupted the booking
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
            expected = partition_of(key.decode(errors="replace"), self._partitions)
            if expected != self.partition:
                raise LedgerBroken(f"offset {record.offset}: its key belongs to partition {expected}")

    def _spoil(self, spoiled: Spoiled, error: Exception) -> NoReturn:
        self.spoiled = True
        raise spoiled from error

    def apply(self, topic: str, records: Sequence[Any]) -> None:
        """See Follower. Raises as `take`."""
        at = self.journal.head.next_offset
        for record in records:
            if record.offset >= at:
                self.take(record)

    # Writing ----------------------------------------------------------------------------------------------------------

    async def persist(self) -> None:
        """See Follower. The caller books nothing meanwhile."""
        # Shielded from cancellation: a started write holds the only copy of its rows.
        await asyncio.shield(asyncio.ensure_future(self._persist()))

    async def _persist(self) -> None:
        async with self._writing:
            if self.closed or self.spoiled or self.unwritten <= MAX_INLINE_WRITE:
                self.flush()
            else:
                batch, position = self._begin_write()
                await asyncio.to_thread(self._db.write, batch, position)
                self._end_write()
            if self._closing:
                self._db.close()

    def flush(self) -> None:
        """Writes unwritten records on the event loop."""
        if self.unwritten and not self.closed and not self.spoiled:
            self._db.write(*self._begin_write())
            self._end_write()

    def _begin_write(self) -> tuple[Any, Position]:
        journal, batch = self.journal, self._batch
        for group, state in self._changed.items():
            batch.put(_GROUP + group.encode(), _GROUP_CODEC.encode((state.version, state.digest, state.open)))
        for day, tree in journal.days.items():
            batch.put(_day_row(day), _TREE_CODEC.encode((tree.size, tree.peaks)))
        sums = [(currency, int(account), both[0], both[1]) for (currency, account), both in journal.balances.items()]
        kept = (journal.head.entries, journal.head.hash, sums, journal.day, journal.trimmed)
        batch.put(_TOTALS, _TOTALS_CODEC.encode(kept))
        self._batch, self.unwritten = self._db.batch(), 0
        last = SourcePosition(journal.head.next_offset, b"" if self._last is None else sha256(self._last).digest())
        return batch, Position({self._topic: last})

    def _end_write(self) -> None:
        journal = self.journal
        self._changed = {}
        # Days only increase: trees of earlier days are read from disk.
        journal.days = {day: tree for day, tree in journal.days.items() if day == journal.day}
        self.head, self.balances = journal.head, self._sums()

    def _sums(self) -> dict[tuple[str, Account], tuple[int, int]]:
        return {name: (debits, credits_) for name, (debits, credits_) in self.journal.balances.items()}

    def close(self) -> None:
        """See Follower."""
        self._closing = True
        if not self._writing.locked():
            self._db.close()

    # Reading, from disk only -----------------------------------------------------------------------------------

    def days(self) -> Iterator[tuple[int, Tree]]:
        """Days since the epoch with their trees, in order."""
        for row, value in self._db.scan(_DAY):
            yield int.from_bytes(row[1:], "big"), Tree(*_TREE_CODEC.decode(value))

    def of_group(self, group: str, after: tuple[int, int], limit: int) -> list[Entry]:
        """At most `limit` entries of a group after (offset, number), in order."""
        name = _INDEX + group.encode() + b"/"
        found: list[Entry] = []
        for row, _ in self._rows(name, after, limit):
            found += _entries(self._db.get(_ENTRY + row[-8:]) or b"", after)
            if len(found) >= limit:
                break
        return found[:limit]

    def of_partition(self, after: tuple[int, int], limit: int) -> list[Entry]:
        """At most `limit` entries after (offset, number), in order."""
        found: list[Entry] = []
        for _, value in self._rows(_ENTRY, after, limit):
            found += _entries(value, after)
            if len(found) >= limit:
                break
        return found[:limit]

    def _rows(self, prefix: bytes, after: tuple[int, int], limit: int) -> Iterator[tuple[bytes, bytes]]:
        """Rows from an offset on, read in pages of about the expected number."""
        at = prefix + max(after[0], 0).to_bytes(8, "big")
        size = min(limit + 1, BATCH)
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
        entry = parse_entry(value[at + 36 : at + 36 + size], value[at : at + 32])
        at += 36 + size
        if (entry.offset, entry.number) > after:
            yield entry
