"""Where the ledger of this process is kept: one RocksDB for all its partitions, written in whole batches.

What is there is always the books of a prefix of the log: entries, balances, chain and the offset they reach are one
write. Losing the directory loses nothing but the time to fold the log again. Must never be written by two processes.

Entries are kept here rather than read from the log again on demand: what a refund by the purse takes money from depends
on what was open before it, so an entry can't be made of its decision alone; and a group's decisions are scattered over
its partition, which has no index by group.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch

from services.payments.domain.ledger import Account, Entry, Fold, GroupBooks, Head, parsed
from services.payments.domain.merkle import Tree

#: Changes with the meaning of what is kept, which is then folded anew from the log.
STAMP = b"ledger-1"
#: Books of groups in memory, of all partitions, beside those that wait to be written.
CACHED = 16_384
_CACHE_BYTES, _WRITE_BUFFER_BYTES = 8 << 20, 8 << 20
_STAMP, _META, _DAY, _GROUP, _ENTRY, _INDEX = b"s", b"m", b"d", b"g", b"e", b"i"


class LedgerStore:
    """Books of several partitions."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = Rdict(str(path), _options())
        if self._db.get(_STAMP) not in (STAMP, None):
            self._db.close()
            shutil.rmtree(path)
            self._db = Rdict(str(path), _options())
        self._db[_STAMP] = STAMP
        self._closed = False

    def close(self) -> None:
        """Ends its use; may be called again."""
        if not self._closed:
            self._closed = True
            self._db.close()

    def partition(self, partition: int) -> PartitionBooks:
        """The books of a partition as they were written last; empty where there are none."""
        return PartitionBooks(self._db, partition)


class PartitionBooks:
    """Books of one partition: the fold, and what it left to be written."""

    def __init__(self, db: Any, partition: int) -> None:
        self._db = db
        self._prefix = partition.to_bytes(4, "big")
        self._young: dict[str, GroupBooks] = {}
        self._old: dict[str, GroupBooks] = {}
        self._changed: dict[str, GroupBooks] = {}
        self._entries: list[Entry] = []
        self.fold = Fold(partition, self)
        meta = db.get(_META + self._prefix)
        if meta is not None:
            head, balances, self.fold.day, self.fold.trimmed = pickle.loads(meta)
            self.fold.head = Head(partition, *head)
            self.fold.balances = {(currency, Account(one)): sums for (currency, one), sums in balances.items()}
            self.fold.days = {day: Tree(size, peaks) for day, size, peaks in self._days()}
        self._written_day = self.fold.day

    # What the fold needs of groups ----------------------------------------------------------------------------------

    def get(self, group: str) -> GroupBooks | None:
        """See Groups."""
        found = self._young.get(group) or self._changed.get(group) or self._old.get(group)
        if found is None:
            raw = self._db.get(_GROUP + self._prefix + group.encode())
            if raw is None:
                return None
            version, digest, open_ = pickle.loads(raw)
            found = GroupBooks(version, digest, open_)
        self._use(group, found)
        return found

    def put(self, group: str, books: GroupBooks) -> None:
        """See Groups."""
        self._changed[group] = books
        self._use(group, books)

    def _use(self, group: str, books: GroupBooks) -> None:
        # Two generations: what was not used for a whole one is dropped.
        if len(self._young) >= CACHED // 2 and group not in self._young:
            self._old, self._young = self._young, {}
        self._young[group] = books

    # Booking ----------------------------------------------------------------------------------------------------------

    def take(self, record: Any) -> None:
        """Books a record of the log; kept once `flush` is called. Raises LedgerBroken."""
        self._entries += self.fold.take(record.offset, record.key, record.value or b"")

    def flush(self) -> None:
        """Writes what was booked since the last call, in one batch."""
        fold, prefix = self.fold, self._prefix
        batch = WriteBatch(raw_mode=True)
        at = 0
        while at < len(self._entries):
            first = self._entries[at]
            value = b""
            while at < len(self._entries) and self._entries[at].offset == first.offset:
                entry = self._entries[at]
                value += entry.hash + len(entry.raw).to_bytes(4, "big") + entry.raw
                at += 1
            offset = first.offset.to_bytes(8, "big")
            batch.put(_ENTRY + prefix + offset, value)
            batch.put(_INDEX + prefix + first.group.encode() + b"/" + offset, b"")
        for group, books in self._changed.items():
            raw = pickle.dumps((books.version, books.digest, books.open), pickle.HIGHEST_PROTOCOL)
            batch.put(_GROUP + prefix + group.encode(), raw)
        # The day never goes back, so older ones are written already.
        for day in [day for day in fold.days if day >= self._written_day]:
            tree = fold.days[day]
            batch.put(_DAY + prefix + day.to_bytes(4, "big"), pickle.dumps((day, tree.size, tree.peaks)))
        sums = {(currency, int(account)): both for (currency, account), both in fold.balances.items()}
        batch.put(_META + prefix, pickle.dumps((tuple(fold.head)[1:], sums, fold.day, fold.trimmed)))
        self._db.write(batch)
        self._entries, self._changed = [], {}
        self._written_day = fold.day

    def _days(self) -> Iterator[tuple[int, int, list[bytes]]]:
        for _, value in self._range(_DAY + self._prefix, b""):
            yield pickle.loads(value)

    # Reading: only what was flushed ---------------------------------------------------------------------------------

    def of_group(self, group: str, after: tuple[int, int], most: int) -> list[Entry]:
        """Entries of a group after an offset and number, in order."""
        name = _INDEX + self._prefix + group.encode() + b"/"
        found: list[Entry] = []
        for key, _ in self._range(name, max(after[0], 0).to_bytes(8, "big")):
            found += _entries(self._db[_ENTRY + self._prefix + key[-8:]], after)
            if len(found) >= most:
                break
        return found[:most]

    def of_partition(self, after: tuple[int, int], most: int) -> list[Entry]:
        """Entries after an offset and number, in order."""
        found: list[Entry] = []
        for _, value in self._range(_ENTRY + self._prefix, max(after[0], 0).to_bytes(8, "big")):
            found += _entries(value, after)
            if len(found) >= most:
                break
        return found[:most]

    def _range(self, prefix: bytes, begin: bytes) -> Iterator[tuple[bytes, bytes]]:
        rows = self._db.iter()
        rows.seek(prefix + begin)
        while rows.valid():
            key = rows.key()
            if not key.startswith(prefix):
                return
            yield key, rows.value()
            rows.next()


def _entries(value: bytes, after: tuple[int, int]) -> Iterator[Entry]:
    at = 0
    while at < len(value):
        size = int.from_bytes(value[at + 32 : at + 36], "big")
        entry = parsed(value[at + 36 : at + 36 + size], value[at : at + 32])
        at += 36 + size
        if (entry.offset, entry.number) > after:
            yield entry


def _options() -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(_CACHE_BYTES))
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_bloom_filter(10, False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_keep_log_file_num(2)
    options.set_max_open_files(64)
    return options
