"""Aggregates of a partition in RocksDB, the recently used ones decoded in memory, and checkpoints.

Changes since the last checkpoint stay in memory. A checkpoint writes them in one batch with the log offset that it
reaches, after every decision in it is acknowledged (checkpoint.py). So the database is a prefix of the log, plus later
versions of some aggregates that the fold drops again, and deleting the directory loses nothing. Database verifies that
it is a fold of this log.

Rows: `a` + key hold an aggregate; `d` + eight bytes of time + key are the index of due times. An aggregate has at most
one entry in the index: the batch that writes a new due time deletes the entry of the old one.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from eventlog.core.aggregate import Aggregate
from eventlog.core.state_store import FOR_EVER_MS, CheckpointPosition
from eventlog.records.codec import Codec
from eventlog.records.log_position import NO_IDENTITY, LogIdentity, SourcePosition
from eventlog.state.database import BATCH, Database, Position
from eventlog.state.generation_cache import GenerationCache

S = TypeVar("S")

#: Decoded aggregates of one partition in memory, in addition to those that wait for a checkpoint.
CACHED = 8_192

_AGGREGATE = b"a"
_DUE = b"d"
#: Layout of the rows; rows of another layout are deleted, and the log is folded again.
_LAYOUT = 2
#: Version, cause, time and due time of an aggregate; its digest and its state follow.
_HEAD = struct.Struct(">qqqq")
_TIME = struct.Struct(">Q")
_NEVER = -1
_DUE_HEAD = len(_DUE) + _TIME.size
#: Changed aggregates that `due_after` examines between two yields.
_EXAMINED = 256


class RocksDBStore(Generic[S]):
    """Aggregates of one partition. One process at a time: RocksDB locks the directory."""

    indexes_timers = True

    def __init__(
        self,
        path: Path,
        codec: Codec[S],
        cached: int = CACHED,
        *,
        log_topic: str = "log",
        identity: LogIdentity = NO_IDENTITY,
    ) -> None:
        """Opens the states of a log, or empty ones if the directory holds none that can be used."""
        self._codec = codec
        self._log_topic = log_topic
        self._cache: GenerationCache[Aggregate[S]] = GenerationCache(cached)
        #: Changed since the last checkpoint began, with the due time.
        self._dirty: dict[str, tuple[Aggregate[S], int | None]] = {}
        #: In the checkpoint that is being written.
        self._saving: dict[str, tuple[Aggregate[S], int | None]] = {}
        #: Aggregates whose index entry the checkpoint in progress moves, with the time of the entry on disk.
        self._moved: list[tuple[Aggregate[S], int | None]] = []
        self._written = False
        self._writing = False
        self._closed = self._spoiled = False
        self._database = Database(path, f"{codec.stamp}/{_LAYOUT}", identity)
        self._load_position()

    def _load_position(self) -> None:
        numbers = self._database.position.numbers
        self.checkpoint_position = _checkpoint_position(self._database.position, self._log_topic)
        self._count = numbers.get("count", 0)
        #: The index has no entry before this time. A scan from here skips no tombstones of deleted entries.
        self._low_ms = numbers.get("low_ms", 0)

    @property
    def position(self) -> Position:
        """How far the log is folded on disk."""
        return self._database.position

    def reset(self, reason: str, detail: str) -> None:
        """Sets aside what is on disk and begins empty. Call it before anything is read."""
        self._database.reset(reason, detail)
        self._load_position()

    def __len__(self) -> int:
        return self._count

    def get(self, key: str) -> Aggregate[S] | None:
        """See StateStore. Returns the same object for as long as it is in memory."""
        found = self._cache.young.get(key)
        if found is not None:
            return found
        found = self._in_memory(key) or self._read(key)
        if found is not None:
            self._cache.use(key, found)
        return found

    def peek(self, key: str) -> Aggregate[S] | None:
        """As `get`, without an effect on the cache."""
        return self._cache.young.get(key) or self._in_memory(key) or self._read(key)

    def _in_memory(self, key: str) -> Aggregate[S] | None:
        entry = self._dirty.get(key) or self._saving.get(key)
        return entry[0] if entry is not None else self._cache.old.get(key)

    def _read(self, key: str) -> Aggregate[S] | None:
        value = self._database.get(_AGGREGATE + key.encode())
        if value is None:
            return None
        try:
            version, cause, time_ms, due_ms = _HEAD.unpack_from(value)
            digest = value[_HEAD.size : _HEAD.size + 32]
            state = self._codec.decode(value[_HEAD.size + 32 :])
        except Exception as error:  # noqa: BLE001 - RocksDB's checksums match, so the row was written like this
            self._database.abort_damaged(error)
        return Aggregate(key, state, version, cause, time_ms, digest, None if due_ms == _NEVER else due_ms)

    def changed(self, aggregate: Aggregate[S], due_ms: int | None) -> None:
        """See StateStore."""
        key = aggregate.key
        if aggregate.version == 1:
            self._count += 1
        if key not in self._cache.young:
            self._cache.use(key, aggregate)
        if due_ms is not None and not 0 <= due_ms <= FOR_EVER_MS:
            due_ms = 0 if due_ms < 0 else FOR_EVER_MS
        self._dirty[key] = (aggregate, due_ms)

    def mark_spoiled(self) -> None:
        """Stops all further writes, because an aggregate in memory may be half changed."""
        self._spoiled = True

    # The index of due times ---------------------------------------------------------------------------------------

    def due_after(self, after_ms: int, most: int) -> Generator[tuple[int, str] | None, None, int]:
        """See StateStore."""
        # Copied first: a checkpoint may write an entry behind the place that the scan has reached.
        waiting = [*self._dirty.items(), *self._saving.items()]
        reached, found, last_ms = FOR_EVER_MS, 0, after_ms
        for name in self._index(max(after_ms + 1, self._low_ms)):
            due_ms = _TIME.unpack_from(name, len(_DUE))[0]
            if found >= most and due_ms > last_ms:
                reached = last_ms
                break
            found, last_ms = found + 1, due_ms
            yield due_ms, name[_DUE_HEAD:].decode()
        for number, (key, (_, due)) in enumerate(waiting):
            if due is not None and after_ms < due <= reached:
                yield due, key
            elif not number % _EXAMINED:
                yield None
        return reached

    def timed_keys(self) -> Iterator[str]:
        """Keys of all aggregates with a due time, some twice: those in memory, then those in the index."""
        yield from [*self._dirty, *self._saving, *self._cache.young, *self._cache.old]
        for name in self._index(self._low_ms):
            yield name[_DUE_HEAD:].decode()

    def all_keys(self) -> Iterator[str]:
        """Keys of all aggregates, some twice: those in memory, then those on disk. The states may change meanwhile."""
        yield from [*self._dirty, *self._saving, *self._cache.young, *self._cache.old]
        start = _AGGREGATE
        while not self._closed:
            names = self._database.keys(start, _AGGREGATE)
            for name in names:
                yield name[len(_AGGREGATE) :].decode()
            if len(names) < BATCH:
                return
            start = names[-1] + b"\0"

    def _index(self, from_ms: int) -> Iterator[bytes]:
        start = _DUE + _TIME.pack(from_ms)
        while not self._closed:
            # No RocksDB iterator is open at a yield: the database may be closed meanwhile.
            names = self._database.keys(start, _DUE)
            for name in names:
                if self._closed:
                    return
                yield name
            if len(names) < BATCH:
                return
            start = names[-1] + b"\0"

    # Checkpoints ------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the store is closed."""
        return self._closed

    @property
    def unsaved(self) -> int:
        """Aggregates that changed since the last checkpoint."""
        return len(self._dirty)

    def begin_checkpoint(self) -> Iterator[None]:
        """Encodes the changed aggregates, yielding between them; deciding may go on meanwhile."""
        self._writing = True
        self._written = False
        self._saving, self._dirty = self._dirty, {}
        self._batch = self._database.batch()
        self._batch_low_ms = FOR_EVER_MS
        for key in self._saving:
            encoded = key.encode()
            # An aggregate that changed again is encoded in its newest state, with the due time of that state: a fold
            # drops decisions that the state already holds, and so would not set their timer.
            aggregate, due_ms = self._dirty.get(key) or self._saving[key]
            due = _NEVER if due_ms is None else due_ms
            head = _HEAD.pack(aggregate.version, aggregate.cause, aggregate.time_ms, due)
            value = head + aggregate.digest.ljust(32, b"\0") + self._codec.encode(aggregate.state)
            self._batch.put(_AGGREGATE + encoded, value)
            indexed_ms = aggregate.indexed_ms
            if indexed_ms != due_ms:
                if indexed_ms is not None:
                    self._batch.delete(_DUE + _TIME.pack(indexed_ms) + encoded)
                if due_ms is not None:
                    self._batch.put(_DUE + _TIME.pack(due_ms) + encoded, b"")
                    self._batch_low_ms = min(self._batch_low_ms, due_ms)
                self._moved.append((aggregate, indexed_ms))
                aggregate.indexed_ms = due_ms
            yield

    def finish_checkpoint(self, position: CheckpointPosition) -> None:
        """Writes what `begin_checkpoint` encoded, in one batch. May run on another thread.

        Call it only when every decision in the batch is acknowledged. `position.applied` is an offset of the log up to
        which everything was folded before the encoding began, `position.digest` the digest of its record.
        """
        if self._spoiled:
            return
        low_ms = min(self._first_indexed_ms(), self._batch_low_ms)
        numbers = {"greatest_cause": position.greatest_cause, "count": self._count, "low_ms": low_ms}
        source = SourcePosition(position.applied + 1, position.digest)
        self._database.write(self._batch, Position({self._log_topic: source}, numbers))
        self._low_ms = low_ms
        self._written = True

    def _first_indexed_ms(self) -> int:
        """Time of the first index entry. Skips only the tombstones of the previous checkpoint."""
        names = self._database.keys(_DUE + _TIME.pack(self._low_ms), _DUE, 1)
        return int(_TIME.unpack_from(names[0], len(_DUE))[0]) if names else FOR_EVER_MS

    def save_folded(self, position: CheckpointPosition) -> None:
        """Writes a checkpoint in one go during a fold, when everything is acknowledged. Bounds a recovery's memory."""
        for _ in self.begin_checkpoint():
            continue
        self.finish_checkpoint(position)
        self.end_checkpoint()

    def end_checkpoint(self) -> None:
        """Allows written aggregates to be evicted, and closes the store if `close` was called meanwhile."""
        if not self._written:
            # Cancelled before the write: the aggregates are still to be written, and the index did not change.
            self._dirty = {**self._saving, **self._dirty}
            for aggregate, indexed_ms in reversed(self._moved):
                aggregate.indexed_ms = indexed_ms
        self._moved = []
        self._saving = {}
        self._writing = False
        if self._closed:
            self._database.close()

    def close(self) -> None:
        """See StateStore. A checkpoint in progress is finished first, by its own task."""
        self._closed = True
        if not self._writing:
            self._database.close()


def _checkpoint_position(position: Position, topic: str) -> CheckpointPosition:
    source = position.sources.get(topic)
    if source is None:
        return CheckpointPosition(-1, -1)
    return CheckpointPosition(source.next_offset - 1, position.numbers["greatest_cause"], source.digest)
