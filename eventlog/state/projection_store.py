"""One partition of a projection on disk: states by key, index rows and undelivered records, recent states in memory.

A write takes states, index rows and the positions of all topics in one batch, as of one moment: a state that is about
to change while a write is being encoded is encoded first. So a fold sees no record twice, whenever the process ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Generic, Protocol, TypeVar

from faust.types import TP

from eventlog.core.errors import Poisoned, Spoiled
from eventlog.core.partitioner import partition_of
from eventlog.core.skips import IsSkipped, nothing_is_skipped
from eventlog.records.dead_letters import Undecodable
from eventlog.records.log_position import SourcePosition
from eventlog.runtime import failpoints
from eventlog.runtime.abort import abort
from eventlog.runtime.time_slice import TimeSlice
from eventlog.state.database import Database, Position
from eventlog.state.generation_cache import GenerationCache
from eventlog.state.ownership import Ownership
from eventlog.state.projection_index import Index
from eventlog.state.undelivered import Undelivered, UndeliveredRecords, encode

log = logging.getLogger(__name__)

S = TypeVar("S")

_STATE = b"s"


class Folding(Protocol[S]):
    """The fold of one domain."""

    @property
    def stamp(self) -> str:
        """Identifies the encoding of states and index rows; rows under another stamp are folded again."""
        ...

    def initial(self, key: str) -> S:
        """State of a key without records."""
        ...

    def is_decision_log(self, topic: str) -> bool:
        """Whether a topic is a decision log.

        Only our deciders write decision logs, so a record there that can't be folded stops the partition. In other
        topics such a record is dead-lettered.
        """
        ...

    def fold(self, state: S, topic: str, record: Any, index: Index) -> None:
        """Folds a record into the state of its key, in place.

        Raises Undecodable or Poisoned before it changes anything. After any other error the partition is no longer
        written, because the state may be half changed.
        """
        ...

    def encode(self, state: S) -> bytes:
        """Encodes a state."""
        ...

    def decode(self, key: str, value: bytes) -> S:
        """Decodes the state of a key."""
        ...


class ProjectionStore(Ownership, Generic[S]):
    """State of one partition; an eventlog.state.follower.Follower."""

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
        """`cached` is the number of states in memory, in addition to those that wait to be written.

        With `partitions`, the number of partitions, a record whose key belongs to another partition is undecodable.
        """
        super().__init__()
        self.partition = partition
        self.topics = tuple(topics)
        self.index = Index(database)
        self._db = database
        self._folding = folding
        self._is_skipped = is_skipped
        self._partitions = partitions
        #: Whether a state in memory may be half changed, so that nothing is written any more.
        self.spoiled = False
        sources = database.position.sources
        self.positions: dict[str, int] = {topic: one.next_offset for topic, one in sources.items()}
        #: Positions when it was taken over. A processor may read earlier records again, which are not folded again.
        self.opened_at: dict[str, int] = {}
        self._digests: dict[str, bytes] = {topic: one.digest for topic, one in sources.items()}
        #: Value of the last folded record, if its digest is not computed yet.
        self._last: dict[str, bytes] = {}
        self._cache: GenerationCache[S] = GenerationCache(cached)
        #: Changed since the last write began.
        self._dirty: dict[str, S] = {}
        #: In the write in progress; and those of them that are not encoded yet.
        self._saving: dict[str, S] = {}
        self._unencoded: dict[str, S] = {}
        self._batch: Any = None
        self._undelivered = UndeliveredRecords(database)
        self._refused: list[Undelivered] = []
        self._writing = asyncio.Lock()
        self._closing = False

    # Ownership -------------------------------------------------------------------------------------------------

    def starts_at(self, tp: TP, begin: int, end: int) -> int:
        """See Ownership. Records that retention deleted before they were folded are skipped."""
        at = self.positions.get(tp.topic, 0)
        if at > end:
            # The next start sets the database aside.
            abort("the log ends before what was folded of it", topic=tp.topic, partition=tp.partition, at=at, end=end)
        if at < begin:
            if at:
                log.warning("%s-%s: records from %s to %s were deleted before they were folded", *tp, at, begin)
            self._begins_at(tp.topic, begin)
        at = self.opened_at[tp.topic] = self.positions.get(tp.topic, begin)
        return at

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
        """The state of a key; None: nothing was folded. Returns the same object for as long as it is in memory."""
        found = self._cache.young.get(key)
        if found is not None:
            return found
        found = self._dirty.get(key)
        if found is None:
            found = self._saving.get(key)
        if found is None:
            found = self._cache.old.get(key)
        if found is None:
            value = self._db.get(_STATE + key.encode())
            if value is None:
                return None
            found = self._folding.decode(key, value)
        self._cache.use(key, found)
        return found

    # Folding ----------------------------------------------------------------------------------------------------

    def apply(self, topic: str, records: Sequence[Any]) -> None:
        """See Follower. Undecodable records are stored for the partition's owner."""
        self.fold(topic, records, set())

    def fold(self, topic: str, records: Sequence[Any], touched: set[str]) -> None:
        """Folds the next records of a topic, and adds to `touched` the keys whose states changed.

        Raises Poisoned at a record that can't be folded, after it folded the records before.
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
        state = self._cache.young.get(key)
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
                raise Poisoned.for_record(topic, self.partition, record.offset, record.value, error) from error
            self._refuse(topic, record, str(error))
            return
        except Poisoned as error:
            if self._is_skipped(topic, self.partition, record):
                return
            raise Poisoned.for_record(topic, self.partition, record.offset, record.value, error.reason) from error
        except Exception as error:
            # The state may be half changed: the next opening folds it again from the state on disk.
            self.spoiled = True
            raise Spoiled.for_record(topic, self.partition, record.offset, record.value, repr(error)) from error
        if fresh:
            self._cache.use(key, state)
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
            self._undelivered.add(refused)
            if self.epoch >= 0:
                self._refused.append(refused)

    def undelivered(self, topic: str) -> list[Undelivered]:
        """Records of a topic whose dead letters may be missing, including those that a standby passed."""
        return self._undelivered.due(topic, self.committed.get(topic, 0))

    def refused(self) -> list[Undelivered]:
        """Records that the owner could not decode since the last call."""
        if not self._refused:
            return []
        found, self._refused = self._refused, []
        return found

    def delivered(self, row: bytes) -> None:
        """The dead letter of a row is acknowledged."""
        self._undelivered.acknowledge(row)

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

    async def persist(self) -> None:
        """See Follower. Folding may go on meanwhile; its changes are part of the next write."""
        # Shielded: a cancelled write would lose the changes that it has taken over.
        await asyncio.shield(asyncio.ensure_future(self._persist()))

    async def _persist(self) -> None:
        async with self._writing:
            if self.closed:
                return
            if self.spoiled:
                if self._closing:
                    self._db.close()
                return
            position = self._position()
            if position != self._db.position or self._undelivered.acknowledged:
                await self._write(position)
            if self._closing:
                self._db.close()

    async def _write(self, position: Position) -> None:
        batch = self._batch = self._db.batch()
        self._saving, self._dirty = self._dirty, {}
        rows = self.index.begin_write()
        delivered, undelivered = self._undelivered.begin_write()
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
        for one in undelivered:
            batch.put(one.row, encode(one))
        if failpoints.armed:
            failpoints.passed("checkpoint encoded, not written")
        await asyncio.to_thread(self._db.write, batch, position)
        if failpoints.armed:
            failpoints.passed("checkpoint written")
        self._undelivered.end_write()
        self._batch = None
        self._saving = {}
        self.index.end_write()

    def close(self) -> None:
        """See Follower."""
        self._closing = True
        if not self._writing.locked():
            self._db.close()
