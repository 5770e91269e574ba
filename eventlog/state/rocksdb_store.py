"""Aggregates of a partition in RocksDB, with the latest ones decoded in memory, and checkpoints that never run ahead.

Changes since the last checkpoint stay in memory. A checkpoint writes them in one batch together with the log offset
that it reaches, and only once every decision in it is acknowledged (checkpoint.py sees to that). So the database is
always a prefix of the log, give or take later versions that the fold drops again, and deleting the directory loses
nothing. Database checks that it is a fold of this very log.

Rows: `a` and the key hold an aggregate; `d`, eight bytes of time and the key are the index of due times. An aggregate
has at most one entry in the index: the batch that writes a new due time deletes the entry of the old one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from eventlog.core.aggregate import Aggregate
from eventlog.core.state_store import FOR_EVER_MS, CheckpointPosition
from eventlog.records.packed import Packed
from eventlog.state.database import BATCH, NO_IDENTITY, Database, LogIdentity, Position, SourcePosition

S = TypeVar("S")

#: Decoded aggregates in memory, of one partition, beside those that wait for a checkpoint.
CACHED = 8_192
#: Changed aggregates of one partition, while a log is folded, that are written before it goes on.
FOLDED = 10_000

_AGGREGATE = b"a"
_DUE = b"d"
#: Layout of the rows; rows of another layout are dropped, and the log is folded instead.
_LAYOUT = 2
#: Version, cause, time and due time of an aggregate; before its digest and its state.
_HEAD = struct.Struct(">qqqq")
_TIME = struct.Struct(">Q")
_NEVER = -1
_DUE_HEAD = len(_DUE) + _TIME.size
#: Changed aggregates that are looked at between two chances for others.
_LOOKED_AT = 256


@dataclass(frozen=True, slots=True)
class Codec(Generic[S]):
    """Bytes of a state. The stamp changes with their meaning; states under another stamp are folded anew.

    `decode` must make nothing but a state, whatever the bytes are: a state directory is data, never code.
    """

    stamp: str
    encode: Callable[[S], bytes]
    decode: Callable[[bytes], S]

    @classmethod
    def of(cls, stamp: str, kind: type[S]) -> Codec[S]:
        """For a type that msgspec knows, such as a dataclass or a Struct."""
        packed: Packed[S] = Packed(kind)
        return cls(stamp, packed.encode, packed.decode)


class RocksDBStore(Generic[S]):
    """Aggregates of one partition. One process at a time: RocksDB locks the directory."""

    def __init__(
        self,
        path: Path,
        codec: Codec[S],
        cached: int = CACHED,
        *,
        log_topic: str = "log",
        identity: LogIdentity = NO_IDENTITY,
    ) -> None:
        """Opens the states of a log, or empty ones where the directory holds none that can be used."""
        self._codec = codec
        self._half = max(cached // 2, 1)
        self._log_topic = log_topic
        # Two generations: what was not used for a whole one is dropped. Cheaper than a list of uses.
        self._young: dict[str, Aggregate[S]] = {}
        self._old: dict[str, Aggregate[S]] = {}
        #: Changed since the last checkpoint began.
        self._dirty: dict[str, tuple[Aggregate[S], int | None]] = {}
        #: In the checkpoint that is being written.
        self._saving: dict[str, tuple[Aggregate[S], int | None]] = {}
        #: Aggregates whose entry in the index the checkpoint under way moves, with the entry that is there.
        self._moved: list[tuple[Aggregate[S], int | None]] = []
        self._written = False
        self._writing = False
        self._closed = self._spoiled = False
        self._database = Database(path, f"{codec.stamp}/{_LAYOUT}", identity)
        self._begin()

    def _begin(self) -> None:
        numbers = self._database.position.numbers
        self.origin = _origin(self._database.position, self._log_topic)
        self._count = numbers.get("count", 0)
        #: The index has no entry before this time: reading it from here on passes over no deleted ones.
        self._low_ms = numbers.get("low_ms", 0)

    @property
    def position(self) -> Position:
        """How far the log is folded on disk."""
        return self._database.position

    def start_again(self, reason: str, trouble: str) -> None:
        """Sets aside what is on disk. Only before anything was read."""
        self._database.start_again(reason, trouble)
        self._begin()

    def __len__(self) -> int:
        return self._count

    def get(self, key: str) -> Aggregate[S] | None:
        """See States. What is read from disk becomes one object, the same for as long as it matters."""
        found = self._young.get(key)
        if found is not None:
            return found
        found = self._in_memory(key) or self._read(key)
        if found is not None:
            self._use(found)
        return found

    def peek(self, key: str) -> Aggregate[S] | None:
        """As `get`, for a look that is not to push others out of memory."""
        return self._young.get(key) or self._in_memory(key) or self._read(key)

    def _in_memory(self, key: str) -> Aggregate[S] | None:
        entry = self._dirty.get(key) or self._saving.get(key)
        return entry[0] if entry is not None else self._old.get(key)

    def _read(self, key: str) -> Aggregate[S] | None:
        value = self._database.get(_AGGREGATE + key.encode())
        if value is None:
            return None
        try:
            version, cause, time_ms, due_ms = _HEAD.unpack_from(value)
            digest = value[_HEAD.size : _HEAD.size + 32]
            state = self._codec.decode(value[_HEAD.size + 32 :])
        except Exception as error:  # noqa: BLE001 - RocksDB's checksums fit, so somebody has written it
            self._database.damage(error)
        return Aggregate(key, state, version, cause, time_ms, digest, None if due_ms == _NEVER else due_ms)

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
        if due_ms is not None and not 0 <= due_ms <= FOR_EVER_MS:
            due_ms = 0 if due_ms < 0 else FOR_EVER_MS
        self._dirty[key] = (aggregate, due_ms)

    def spoil(self) -> None:
        """Nothing in memory may be written any more: something of it is half changed."""
        self._spoiled = True

    # The index of due times ---------------------------------------------------------------------------------------

    def due_after(self, after_ms: int, most: int) -> Generator[tuple[int, str] | None, None, int]:
        """See States."""
        # Taken first: an entry that is written while the index is read may stand before the place that is read.
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
            elif not number % _LOOKED_AT:
                yield None
        return reached

    def timed_keys(self) -> Iterator[str]:
        """Keys in memory, then those in the index of due times: every aggregate that something falls due for."""
        yield from [*self._dirty, *self._saving, *self._young, *self._old]
        for name in self._index(self._low_ms):
            yield name[_DUE_HEAD:].decode()

    def _index(self, from_ms: int) -> Iterator[bytes]:
        start = _DUE + _TIME.pack(from_ms)
        while not self._closed:
            # No iterator of RocksDB is open while others work: the database may be closed meanwhile.
            names = self._database.names(start, _DUE)
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
        """Whether it may not be used any more."""
        return self._closed

    @property
    def unsaved(self) -> int:
        """Aggregates that changed since the last checkpoint."""
        return len(self._dirty)

    def begin_checkpoint(self) -> Iterator[None]:
        """Encodes what changed, yielding between aggregates; deciding may go on meanwhile."""
        self._writing = True
        self._written = False
        self._saving, self._dirty = self._dirty, {}
        self._batch = self._database.batch()
        self._batch_low_ms = FOR_EVER_MS
        for key in self._saving:
            encoded = key.encode()
            # If more was decided about it meanwhile, it is encoded as it is now, and its entry in the index must be
            # that of the same state: a fold drops decisions that the state holds, and so would not set the timer.
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

    def finish_checkpoint(self, origin: CheckpointPosition) -> None:
        """Writes what `begin_checkpoint` encoded, in one batch. May run on another thread.

        Only to be called when every decision in it is acknowledged; `origin.applied` is an offset of the log up to
        which everything had been folded in before the encoding began, `origin.digest` that of its record.
        """
        if self._spoiled:
            return
        low_ms = min(self._first_indexed_ms(), self._batch_low_ms)
        numbers = {"greatest_cause": origin.greatest_cause, "count": self._count, "low_ms": low_ms}
        source = SourcePosition(origin.applied + 1, origin.digest)
        self._database.write(self._batch, Position({self._log_topic: source}, numbers))
        self._low_ms = low_ms
        self._written = True

    def _first_indexed_ms(self) -> int:
        """When the first entry falls due; passes over those only that the checkpoint before deleted."""
        names = self._database.names(_DUE + _TIME.pack(self._low_ms), _DUE, 1)
        return int(_TIME.unpack_from(names[0], len(_DUE))[0]) if names else FOR_EVER_MS

    def keep_folded(self, origin: CheckpointPosition) -> None:
        """A checkpoint in one go, while a log is folded: all of it is acknowledged. Bounds the memory of a recovery."""
        for _ in self.begin_checkpoint():
            continue
        self.finish_checkpoint(origin)
        self.end_checkpoint()

    def end_checkpoint(self) -> None:
        """Lets what is written be dropped from memory, and closes if that was asked for meanwhile."""
        if not self._written:
            # Given up before the write: it is still to be kept, and the index is as it was.
            self._dirty = {**self._saving, **self._dirty}
            for aggregate, indexed_ms in reversed(self._moved):
                aggregate.indexed_ms = indexed_ms
        self._moved = []
        self._saving = {}
        self._writing = False
        if self._closed:
            self._database.close()

    def close(self) -> None:
        """See States. A checkpoint under way is finished first, by its own task."""
        self._closed = True
        if not self._writing:
            self._database.close()


def _origin(position: Position, topic: str) -> CheckpointPosition:
    source = position.sources.get(topic)
    if source is None:
        return CheckpointPosition(-1, -1)
    return CheckpointPosition(source.next_offset - 1, position.numbers["greatest_cause"], source.digest)
