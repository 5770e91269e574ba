"""Aggregates of a partition in RocksDB, with the latest ones decoded in memory, and checkpoints that never run ahead.

What changed since the last checkpoint stays in memory. A checkpoint writes it in one batch together with the log
offset it reaches, and only once every decision in it is acknowledged (checkpoint.py sees to that). So what is on disk
is always a prefix of the log, give or take later versions that the fold drops again, and deleting the directory loses
nothing.
"""

from __future__ import annotations

import logging
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch

from eventlog.aggregate import Aggregate
from eventlog.states import Origin

log = logging.getLogger(__name__)

S = TypeVar("S")

#: One block cache for the whole process, whatever the number of partitions.
BLOCK_CACHE_BYTES = 32 << 20
WRITE_BUFFER_BYTES = 8 << 20
#: Decoded aggregates in memory, of one partition, beside those that wait for a checkpoint.
CACHED = 8_192
#: Changed aggregates of one partition, while a log is folded, that are written before it goes on.
FOLDED = 10_000

_AGGREGATE = b"a"
_DUE = b"d"
_META = b"meta"
#: Layout of what is written; another one is not read, the log is folded instead.
_LAYOUT = 1

_block_cache: Cache | None = None


def _options() -> Options:
    global _block_cache  # noqa: PLW0603 - one cache a process is the point
    if _block_cache is None:
        _block_cache = Cache(BLOCK_CACHE_BYTES)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(_block_cache)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_bloom_filter(10, False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_keep_log_file_num(2)
    options.set_max_open_files(64)
    return options


class Codec(Generic[S]):
    """Bytes of a state. The stamp changes with their meaning; states under another stamp are folded anew."""

    def __init__(
        self,
        stamp: str,
        encode: Callable[[S], bytes] = lambda state: pickle.dumps(state, pickle.HIGHEST_PROTOCOL),
        decode: Callable[[bytes], S] = pickle.loads,
    ) -> None:
        self.stamp = stamp
        self.encode = encode
        self.decode = decode


class RocksStates(Generic[S]):
    """Aggregates of one partition. One process at a time: RocksDB locks the directory."""

    def __init__(self, path: Path, codec: Codec[S], cached: int = CACHED) -> None:
        self._codec = codec
        self._half = max(cached // 2, 1)
        self._path = path
        # Two generations: what was not used for a whole one is dropped. Cheaper than a list of uses.
        self._young: dict[str, Aggregate[S]] = {}
        self._old: dict[str, Aggregate[S]] = {}
        #: Changed since the last checkpoint began.
        self._dirty: dict[str, tuple[Aggregate[S], int | None]] = {}
        #: In the checkpoint that is being written.
        self._saving: dict[str, tuple[Aggregate[S], int | None]] = {}
        self._handed_out_ms = -1
        self._writing = False
        self._closed = False
        self._db, self.origin, self._count = self._open()

    def _open(self) -> tuple[Any, Origin, int]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = Rdict(str(self._path), _options())
        meta = db.get(_META)
        if meta is not None:
            kept: dict[str, Any] = pickle.loads(meta)
            if kept["layout"] == _LAYOUT and kept["stamp"] == self._codec.stamp:
                return db, Origin(kept["applied"], kept["greatest_cause"]), kept["count"]
            log.info("%s was written by another version: the log is folded anew", self._path)
            db.close()
            shutil.rmtree(self._path)
            db = Rdict(str(self._path), _options())
        return db, Origin(-1, -1), 0

    def __len__(self) -> int:
        return self._count

    def get(self, key: str) -> Aggregate[S] | None:
        """See States. What is read from disk becomes one object, the same for as long as it matters."""
        found = self._young.get(key)
        if found is not None:
            return found
        entry = self._dirty.get(key) or self._saving.get(key)
        found = entry[0] if entry is not None else self._old.get(key) or self._read(key)
        if found is not None:
            self._use(found)
        return found

    def _read(self, key: str) -> Aggregate[S] | None:
        value = self._db.get(_AGGREGATE + key.encode())
        if value is None:
            return None
        version, cause, time_ms = _HEAD.unpack_from(value)
        digest = value[_HEAD.size : _HEAD.size + 32]
        state = self._codec.decode(value[_HEAD.size + 32 :])
        return Aggregate(key, state, version, cause, time_ms, digest)

    def _use(self, aggregate: Aggregate[S]) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[aggregate.key] = aggregate

    def changed(self, aggregate: Aggregate[S], due_ms: int | None) -> None:
        """See States."""
        key = aggregate.key
        if aggregate.version == 1:
            self._count += 1
        if key not in self._young:
            self._use(aggregate)
        self._dirty[key] = (aggregate, due_ms)

    def due_until(self, until_ms: int) -> Iterator[tuple[int, str]]:
        """See States. Reads the index of due times on from where the last call ended."""
        if until_ms <= self._handed_out_ms:
            return
        start = _DUE + _TIME.pack(max(self._handed_out_ms + 1, 0))
        end = _DUE + _TIME.pack(min(until_ms + 1, (1 << 63) - 1))
        self._handed_out_ms = until_ms
        for waiting in (self._dirty, self._saving):
            for key, (_, due_ms) in waiting.items():
                if due_ms is not None and due_ms <= until_ms:
                    yield due_ms, key
        entries = self._db.iter()
        entries.seek(start)
        while entries.valid():
            name = entries.key()
            if name >= end or not name.startswith(_DUE):
                break
            yield _TIME.unpack_from(name, 1)[0], name[9:].decode()
            entries.next()

    # Checkpoints ------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it may not be used any more."""
        return self._closed

    @property
    def unsaved(self) -> int:
        """Aggregates that changed since the last checkpoint."""
        return len(self._dirty)

    def begin_checkpoint(self) -> Iterator[None]:
        """Encodes what changed, yielding between aggregates; deciding may go on meanwhile."""
        self._writing = True
        self._saving, self._dirty = self._dirty, {}
        self._batch = WriteBatch(raw_mode=True)
        for key, (aggregate, due_ms) in self._saving.items():
            head = _HEAD.pack(aggregate.version, aggregate.cause, aggregate.time_ms)
            value = head + aggregate.digest.ljust(32, b"\0") + self._codec.encode(aggregate.state)
            self._batch.put(_AGGREGATE + key.encode(), value)
            if due_ms is not None:
                # An entry that is out of date by then costs one look at the aggregate.
                self._batch.put(_DUE + _TIME.pack(due_ms) + key.encode(), b"")
            yield

    def finish_checkpoint(self, origin: Origin) -> None:
        """Writes what `begin_checkpoint` encoded, in one batch. May run on another thread.

        Only to be called when every decision in it is acknowledged; `origin.applied` is an offset of the log up to
        which everything had been folded in before the encoding began.
        """
        meta = {
            "layout": _LAYOUT,
            "stamp": self._codec.stamp,
            "applied": origin.applied,
            "greatest_cause": origin.greatest_cause,
            "count": self._count,
        }
        self._batch.put(_META, pickle.dumps(meta))
        self._db.write(self._batch)

    def keep_folded(self, origin: Origin) -> None:
        """A checkpoint in one go, while a log is folded: all of it is acknowledged. Bounds the memory of a recovery."""
        for _ in self.begin_checkpoint():
            continue
        self.finish_checkpoint(origin)
        self.end_checkpoint()

    def end_checkpoint(self) -> None:
        """Lets what is written be dropped from memory, and closes if that was asked for meanwhile."""
        self._saving = {}
        self._writing = False
        if self._closed:
            self._db.close()

    def forget_due(self, until_ms: int) -> None:
        """Drops the index of due times up to a time at which none of them matters any more."""
        self._db.delete_range(_DUE, _DUE + _TIME.pack(until_ms + 1))

    def close(self) -> None:
        """See States. A checkpoint under way is finished first, by its own task."""
        self._closed = True
        if not self._writing:
            self._db.close()


_HEAD = struct.Struct(">qqq")
_TIME = struct.Struct(">Q")
