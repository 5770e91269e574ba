"""One partition of a projection: states by key and rows by other names, on disk, with the latest states in memory.

A write takes states, index rows and the positions of all topics in one batch, as they are at one moment: a state that
is about to change while the write is being encoded is encoded first. So a fold never sees a record twice, whenever the
process ends. Records that can't be decoded are kept as rows as well, until their dead letters are acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from hashlib import sha256
from heapq import nsmallest
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec
from faust.types import TP

from eventlog.core.errors import Poisoned, Spoiled
from eventlog.core.partitioner import partition_of
from eventlog.core.skips import IsSkipped, nothing_is_skipped
from eventlog.processors.disk_processor import Ownership
from eventlog.processors.time_slice import TimeSlice
from eventlog.records.dead_letters import Undecodable
from eventlog.runtime import failpoints
from eventlog.runtime.abort import abort
from eventlog.state.database import Database, Position, SourcePosition

log = logging.getLogger(__name__)

S = TypeVar("S")

_STATE = b"s"
_INDEX = b"i"
_DEAD = b"x"


class Undelivered(NamedTuple):
    """A record that can't be decoded, and whose dead letter is not acknowledged yet."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    error: str

    @property
    def row(self) -> bytes:
        """Its row in the database."""
        return _DEAD + self.topic.encode() + b"\0" + self.offset.to_bytes(8, "big")


class Index:
    """Rows of one partition by a name and, within it, in the order of their places.

    Changes since the last write are in memory, and every page takes them into account.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self._changed: dict[str, dict[bytes, bytes | None]] = {}
        self._saving: dict[str, dict[bytes, bytes | None]] = {}

    def put(self, name: str, place: bytes, value: bytes) -> None:
        """Adds a row, or changes its value."""
        rows = self._changed.get(name)
        if rows is None:
            self._changed[name] = {place: value}
        else:
            rows[place] = value

    def delete(self, name: str, place: bytes) -> None:
        """Takes a row out."""
        self._changed.setdefault(name, {})[place] = None

    def page(self, name: str, after: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """At most so many (place, value) of a name, in order, the first one after a place; b"": from the first."""
        changes = {**self._saving.get(name, {}), **self._changed.get(name, {})}
        prefix = _prefix(name)
        start = prefix + after + b"\0" if after else prefix
        gone = sum(value is None for value in changes.values())
        found: dict[bytes, bytes | None] = {
            row[len(prefix) :]: value for row, value in self._db.rows(start, prefix, most + gone)
        }
        if not changes:
            return [(place, value) for place, value in found.items() if value is not None]
        found.update((place, value) for place, value in changes.items() if place > after)
        return nsmallest(most, ((place, value) for place, value in found.items() if value is not None))

    def begin_write(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows that changed; None: the row is gone. Later changes are part of the next write."""
        self._saving, self._changed = self._changed, {}
        return self._rows(self._saving)

    @staticmethod
    def _rows(saving: dict[str, dict[bytes, bytes | None]]) -> Iterator[tuple[bytes, bytes | None]]:
        for name, rows in saving.items():
            prefix = _prefix(name)
            for place, value in rows.items():
                yield prefix + place, value

    def end_write(self) -> None:
        """What was begun is on disk."""
        self._saving = {}


def _prefix(name: str) -> bytes:
    raw = name.encode()
    return _INDEX + len(raw).to_bytes(4, "big") + raw


class Folding(Protocol[S]):
    """What a domain fills in."""

    #: Changes with the meaning of a state's bytes and of the index rows; rows under another stamp are folded again.
    @property
    def stamp(self) -> str:
        """See above."""
        ...

    def initial(self, key: str) -> S:
        """State of a key that nothing was said about."""
        ...

    def is_decision_log(self, topic: str) -> bool:
        """Whether a topic is a decision log. It has no strangers, so a record that can't be folded stops the partition;
        those of other topics are dead-lettered."""
        ...

    def fold(self, state: S, topic: str, record: Any, index: Index) -> None:
        """Folds a record into the state of its key, in place.

        Raises Undecodable or Poisoned before it changes anything. After any other error nothing of the partition is
        written any more, because the state may be half changed.
        """
        ...

    def encode(self, state: S) -> bytes:
        """Bytes of a state."""
        ...

    def decode(self, key: str, value: bytes) -> S:
        """The state that was encoded."""
        ...


class Projected(Ownership, Generic[S]):
    """One partition; an eventlog.state.follower.Follower."""

    def __init__(
        self,
        partition: int,
        database: Database,
        folding: Folding[S],
        topics: Sequence[str],
        cached: int,
        is_skipped: IsSkipped = nothing_is_skipped,
        partitions: int = 0,
    ) -> None:
        """Keeps about `cached` states in memory beside those that wait to be written. With `partitions`, a key that
        belongs to another partition of so many is refused."""
        super().__init__()
        self.partition = partition
        self.topics = tuple(topics)
        self.index = Index(database)
        self._db = database
        self._folding = folding
        self._is_skipped = is_skipped
        self._partitions = partitions
        #: Whether a state in memory may be half changed: nothing is written any more.
        self.spoiled = False
        self._half = max(cached // 2, 1)
        sources = database.position.sources
        self.positions: dict[str, int] = {topic: one.next_offset for topic, one in sources.items()}
        self._digests: dict[str, bytes] = {topic: one.digest for topic, one in sources.items()}
        #: Value of the last folded record, where its digest is not known yet.
        self._last: dict[str, bytes] = {}
        # Two generations: a state that was not used for a whole one is dropped.
        self._young: dict[str, S] = {}
        self._old: dict[str, S] = {}
        #: Changed since the last write began.
        self._dirty: dict[str, S] = {}
        #: In the write that is under way; and those of them that are not encoded yet.
        self._saving: dict[str, S] = {}
        self._unencoded: dict[str, S] = {}
        self._batch: Any = None
        #: Not acknowledged and not on disk; on disk; and acknowledged since.
        self._dead: dict[bytes, Undelivered] = {}
        self._refused: list[Undelivered] = []
        self._dead_rows: set[bytes] = {row for row, _ in database.each(_DEAD)}
        self._delivered: list[bytes] = []
        self._writing = asyncio.Lock()
        self._closing = False

    # The owner's view of it -------------------------------------------------------------------------------------

    def starts_at(self, tp: TP, begin: int, end: int) -> int:
        """See Ownership. Records that retention took before they were folded are passed over."""
        at = self.positions.get(tp.topic, 0)
        if at > end:
            # The next start sets the database aside.
            abort("the log ends before what was folded of it", topic=tp.topic, partition=tp.partition, at=at, end=end)
        if at < begin:
            if at:
                log.warning("%s-%s: records from %s to %s are gone before they were folded", *tp, at, begin)
            self._begins_at(tp.topic, begin)
        return self.positions.get(tp.topic, begin)

    def _begins_at(self, topic: str, offset: int) -> None:
        self.positions[topic] = offset
        self._digests[topic] = b""
        self._last.pop(topic, None)

    @property
    def closed(self) -> bool:
        """See Follower."""
        return self._closing or self._db.closed

    @property
    def unsaved(self) -> int:
        """States that changed since the last write began."""
        return len(self._dirty)

    # States -----------------------------------------------------------------------------------------------------

    def get(self, key: str) -> S | None:
        """The state of a key, None where nothing was folded. The object is the same as long as it is in memory."""
        found = self._young.get(key)
        if found is not None:
            return found
        found = self._dirty.get(key)
        if found is None:
            found = self._saving.get(key)
        if found is None:
            found = self._old.get(key)
        if found is None:
            value = self._db.get(_STATE + key.encode())
            if value is None:
                return None
            found = self._folding.decode(key, value)
        self._use(key, found)
        return found

    def _use(self, key: str, state: S) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[key] = state

    # Folding ----------------------------------------------------------------------------------------------------

    def apply(self, topic: str, records: Sequence[Any]) -> None:
        """See Follower. What can't be decoded is kept for the partition's owner."""
        self.fold(topic, records, set())

    def fold(self, topic: str, records: Sequence[Any], touched: set[str]) -> None:
        """Folds the next records of a topic, and adds the keys whose states changed.

        Raises Poisoned at a record that can't be folded; those before it are.
        """
        position = self.positions.get(topic, 0)
        last = None
        try:
            for record in records:
                if record.offset >= position:
                    self._fold_one(topic, record, touched)
                    last = record
        finally:
            if last is not None:
                self.positions[topic] = last.offset + 1
                self._last[topic] = last.value or b""

    def _fold_one(self, topic: str, record: Any, touched: set[str]) -> None:
        folding = self._folding
        key = (record.key or b"").decode(errors="replace")
        if self._unencoded:
            unencoded = self._unencoded.pop(key, None)
            if unencoded is not None:
                self._encode(key, unencoded)
        state = self._young.get(key)
        if state is None:
            state = self.get(key)
        fresh = state is None
        try:
            if state is None:
                state = self._initial(key)
            folding.fold(state, topic, record, self.index)
        except Undecodable as error:
            if self._is_skipped(topic, self.partition, record):
                return
            if folding.is_decision_log(topic):
                raise Poisoned.by(topic, self.partition, record.offset, record.value, error) from error
            self._refuse(topic, record, str(error))
            return
        except Poisoned as error:
            if self._is_skipped(topic, self.partition, record):
                return
            raise Poisoned.by(topic, self.partition, record.offset, record.value, error.reason) from error
        except Exception as error:
            # The state may be half changed: the next opening folds it again from what is on disk.
            self.spoiled = True
            raise Spoiled.by(topic, self.partition, record.offset, record.value, repr(error)) from error
        if fresh:
            self._use(key, state)
        self._dirty[key] = state
        touched.add(key)

    def _initial(self, key: str) -> S:
        if self._partitions and partition_of(key, self._partitions) != self.partition:
            raise Undecodable("its key belongs to another partition")
        return self._folding.initial(key)

    # Dead letters -----------------------------------------------------------------------------------------------

    def _refuse(self, topic: str, record: Any, error: str) -> None:
        if record.offset >= self.committed.get(topic, 0):
            headers = [(name, value) for name, value in record.headers]
            refused = Undelivered(topic, record.offset, record.key, record.value, headers, error)
            self._dead[refused.row] = refused
            if self.epoch >= 0:
                self._refused.append(refused)

    def undelivered(self, topic: str) -> list[Undelivered]:
        """Records of a topic whose dead letters may be missing, among them those that a standby has passed."""
        found = dict(self._dead)
        for row in self._dead_rows - found.keys():
            value = self._db.get(row)
            if value is not None:
                found[row] = _DEAD_ROW.decode(value)
        due = []
        for row, one in found.items():
            if one.topic != topic:
                continue
            if one.offset < self.committed.get(topic, 0):
                # An owner before us was further: offsets are committed after the dead letters before them.
                self.delivered(row)
            else:
                due.append(one)
        return sorted(due, key=lambda one: one.offset)

    def refused(self) -> list[Undelivered]:
        """Records that the owner could not decode since the last call."""
        if not self._refused:
            return []
        found, self._refused = self._refused, []
        return found

    def delivered(self, row: bytes) -> None:
        """The dead letter of a row is acknowledged."""
        self._dead.pop(row, None)
        if row in self._dead_rows:
            self._dead_rows.discard(row)
            self._delivered.append(row)

    # Writing ----------------------------------------------------------------------------------------------------

    def _encode(self, key: str, state: S) -> None:
        self._batch.put(_STATE + key.encode(), self._folding.encode(state))

    def _position(self) -> Position:
        for topic, value in self._last.items():
            self._digests[topic] = sha256(value).digest()
        self._last.clear()
        return Position(
            {topic: SourcePosition(at, self._digests.get(topic, b"")) for topic, at in self.positions.items()}
        )

    async def keep(self) -> None:
        """See Follower. Folding goes on meanwhile; what it changes is part of the next write."""
        # Not cancelled in the middle: what a write has taken is in no other place.
        await asyncio.shield(asyncio.ensure_future(self._keep()))

    async def _keep(self) -> None:
        async with self._writing:
            if self.closed:
                return
            if self.spoiled:
                if self._closing:
                    self._db.close()
                return
            position = self._position()
            if position != self._db.position or self._delivered:
                await self._write(position)
            if self._closing:
                self._db.close()

    async def _write(self, position: Position) -> None:
        batch = self._batch = self._db.batch()
        self._saving, self._dirty = self._dirty, {}
        rows = self.index.begin_write()
        dead, delivered, self._delivered = list(self._dead.values()), self._delivered, []
        self._dead_rows.update(one.row for one in dead)
        unencoded = self._unencoded = dict(self._saving)
        slices = TimeSlice()
        while unencoded:
            key, state = unencoded.popitem()
            self._encode(key, state)
            if slices.expired():
                await slices.yield_to_loop()
        for row, value in rows:
            if value is None:
                batch.delete(row)
            else:
                batch.put(row, value)
            if slices.expired():
                await slices.yield_to_loop()
        for row in delivered:
            batch.delete(row)
        for one in dead:
            batch.put(one.row, _ENCODER.encode(one))
        if failpoints.armed:
            failpoints.passed("checkpoint encoded, not written")
        await asyncio.to_thread(self._db.write, batch, position)
        if failpoints.armed:
            failpoints.passed("checkpoint written")
        for one in dead:
            self._dead.pop(one.row, None)
        self._batch = None
        self._saving = {}
        self.index.end_write()

    def close(self) -> None:
        """See Follower."""
        self._closing = True
        if not self._writing.locked():
            self._db.close()


_ENCODER = msgspec.msgpack.Encoder()
_DEAD_ROW: msgspec.msgpack.Decoder[Undelivered] = msgspec.msgpack.Decoder(Undelivered)
