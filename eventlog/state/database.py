"""One RocksDB of one partition: a fold of logs on disk, which may be deleted at any time.

A database names the logs it was folded from and how far. It is used only where that still fits: another cluster,
another topic of the same name, another number of partitions, or other records at the kept offset mean that it belongs
to another log. Damaged files and a database that does not fit are set aside, with a warning and a count, and the logs
are folded again. RocksDB checks the checksum of each block that it reads; damage that is found later marks the
database, ends the process, and the next start sets it aside.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch

from eventlog.runtime import private_files
from eventlog.runtime.abort import abort

log = logging.getLogger(__name__)

#: One block cache for the whole process, whatever the number of partitions and processors.
BLOCK_CACHE_BYTES = 32 << 20
WRITE_BUFFER_BYTES = 8 << 20
#: Rows that `names` and `rows` read before they let go of their iterator.
BATCH = 256

_META = b"meta"
#: Layout of the meta record.
_LAYOUT = 2
#: A file beside RocksDB's own that says why the database must not be opened again.
_DAMAGED = "DAMAGED"
#: The reason of rows that another version of the program wrote.
_OLD = "another version"
#: Errors of a database that is sound: the machine or another user of it is at fault.
_NOT_DAMAGE = ("No space left", "Too many open files", "Permission denied", "LOCK: ", "Cannot allocate memory")
#: Longest wait for a database that this process is closing: its last write, on a thread of its own, takes less.
CLOSE_S = 60.0

#: Databases set aside by this process, by reason.
set_aside_count: dict[str, int] = {}

_block_cache: Cache | None = None
#: Directories that this process has open, those included that are closed as soon as a write under way has ended.
_open: set[Path] = set()


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Which logs a database may be a fold of."""

    #: Id of the Kafka cluster.
    cluster: str
    #: Partitions of every topic.
    partitions: int
    #: Id of each topic, by name: a topic that is deleted and made again has another one.
    topics: Mapping[str, str]


class _Unusable(NamedTuple):
    """Why rows can't be used."""

    reason: str
    trouble: str


#: For logs that have no identity: in tests, and where everything is in memory.
NO_IDENTITY = LogIdentity("", 0, {})


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """How far one topic is folded."""

    #: Offset of the record that comes next.
    next_offset: int
    #: SHA-256 of the value of the record before it; empty: not known.
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Position:
    """How far the logs are folded, and what else its user keeps in the same write."""

    sources: Mapping[str, SourcePosition] = field(default_factory=dict)
    #: Numbers of the user's own, such as the greatest cause.
    numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing is folded yet."""
        return not self.sources


def options(write_buffer_bytes: int = WRITE_BUFFER_BYTES) -> Options:
    """RocksDB's options, the same for every database of the process."""
    global _block_cache  # noqa: PLW0603 - one cache a process is the point
    if _block_cache is None:
        _block_cache = Cache(BLOCK_CACHE_BYTES)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(_block_cache)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_bloom_filter(10, False)
    found = Options(raw_mode=True)
    found.create_if_missing(True)
    found.set_paranoid_checks(True)
    found.set_block_based_table_factory(blocks)
    found.set_write_buffer_size(write_buffer_bytes)
    found.set_max_write_buffer_number(2)
    found.set_compression_type(DBCompressionType.lz4())
    found.set_keep_log_file_num(2)
    found.set_max_open_files(64)
    return found


class Database:
    """Rows of bytes, written in batches that carry the position they reach. RocksDB locks the directory."""

    def __init__(self, path: Path, stamp: str, identity: LogIdentity = NO_IDENTITY) -> None:
        """Opens the database, or a new one where what is there can't be used.

        `stamp` changes with the meaning of the rows: rows under another stamp are dropped.
        """
        self.path = path
        self._stamp = stamp
        self._identity = identity
        self._closed = False
        private_files.from_now_on()
        private_files.directory(path.parent)
        private_files.tree(path)
        if (path / _DAMAGED).exists():
            set_aside(path, "damaged", (path / _DAMAGED).read_text(errors="replace"))
        self._db, self.position = self._open()
        _open.add(path)

    def _open(self) -> tuple[Any, Position]:
        manifest = _manifest(self.path)
        try:
            db = Rdict(str(self.path), options())
        except Exception as error:
            if any(words in str(error) for words in _NOT_DAMAGE):
                raise
            set_aside(self.path, "damaged", str(error))
            return Rdict(str(self.path), options()), Position()
        try:
            found = self._judge(db, manifest)
        except Exception as error:  # noqa: BLE001 - unreadable, whatever the reason
            found = _Unusable("damaged", repr(error))
        if isinstance(found, Position):
            return db, found
        db.close()
        if found.reason == _OLD:
            log.info("%s was %s: the log is folded again", self.path, found.trouble)
            shutil.rmtree(self.path)
        else:
            set_aside(self.path, found.reason, found.trouble)
        return Rdict(str(self.path), options()), Position()

    def _judge(self, db: Any, manifest: tuple[str, int]) -> Position | _Unusable:
        """The position of the rows, or why they can't be used. Raises what RocksDB or the decoder does at damage."""
        meta = db.get(_META)
        if meta is None:
            return Position() if _is_empty(db) else _Unusable("damaged", "rows without a position")
        kept = json.loads(meta)
        if (kept["layout"], kept["stamp"]) != (_LAYOUT, self._stamp):
            return _Unusable(_OLD, f"written as {kept['stamp']}, layout {kept['layout']}")
        name, size = kept["manifest"]
        if manifest[0] == name and manifest[1] < size:
            # RocksDB takes the rest for all there is, and would miss rows from before its last writes.
            return _Unusable("damaged", f"{name} is cut from {size} to {manifest[1]} bytes")
        trouble = self._other_log(kept)
        return _position(kept) if trouble is None else _Unusable("another log", trouble)

    def _other_log(self, kept: Mapping[str, Any]) -> str | None:
        """In which way the database belongs to another log; None: it fits."""
        mine = self._identity
        if mine is NO_IDENTITY:
            return None
        if kept["cluster"] != mine.cluster:
            return f"it was folded from cluster {kept['cluster']}, this one is {mine.cluster}"
        if kept["partitions"] != mine.partitions:
            return f"its topics had {kept['partitions']} partitions, now they have {mine.partitions}"
        for topic, number in kept["topics"].items():
            if topic not in mine.topics:
                return f"it was folded from topic {topic}, which this one is not"
            if mine.topics[topic] != number:
                return f"topic {topic} had the id {number}, now it is {mine.topics[topic]}"
        return None

    @property
    def closed(self) -> bool:
        """Whether it may not be used any more."""
        return self._closed

    def get(self, key: bytes) -> bytes | None:
        """The value of a row, or None."""
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:  # noqa: BLE001 - see damage
            self.damage(error)
        return value

    def names(self, start: bytes, prefix: bytes, limit: int = BATCH) -> list[bytes]:
        """At most so many keys with a prefix, from `start` on, in order."""
        return [key for key, _ in self._seek(start, prefix, limit, values=False)]

    def rows(self, start: bytes, prefix: bytes, limit: int = BATCH) -> list[tuple[bytes, bytes]]:
        """At most so many rows with a prefix, from `start` on, in order."""
        return self._seek(start, prefix, limit, values=True)

    def each(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All rows with a prefix, in order. No iterator of RocksDB stays open between two rows."""
        at = start or prefix
        while not self._closed:
            found = self.rows(at, prefix)
            yield from found
            if len(found) < BATCH:
                return
            at = found[-1][0] + b"\0"

    def _seek(self, start: bytes, prefix: bytes, limit: int, *, values: bool) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        try:
            rows = self._db.iter()
            rows.seek(start)
            while len(found) < limit and rows.valid():
                key = rows.key()
                if not key.startswith(prefix):
                    break
                found.append((key, rows.value() if values else b""))
                rows.next()
            rows.status()
        except Exception as error:  # noqa: BLE001 - see damage
            self.damage(error)
        return found

    @staticmethod
    def batch() -> WriteBatch:
        """An empty batch: `put(key, value)` and `delete(key)`."""
        return WriteBatch(raw_mode=True)

    def write(self, batch: WriteBatch, position: Position) -> None:
        """Writes rows and the position that they reach, all or nothing. May run on another thread."""
        batch.put(_META, self._meta(position))
        try:
            self._db.write(batch)
        except Exception as error:  # noqa: BLE001 - see damage
            self.damage(error)
        self.position = position

    def delete_range(self, begin: bytes, end: bytes) -> None:
        """Drops the rows from `begin` to before `end`."""
        try:
            self._db.delete_range(begin, end)
        except Exception as error:  # noqa: BLE001 - see damage
            self.damage(error)

    def start_again(self, reason: str, trouble: str) -> None:
        """Sets aside all there is, and goes on with an empty database."""
        self._db.close()
        set_aside(self.path, reason, trouble)
        self._db, self.position = Rdict(str(self.path), options()), Position()

    def close(self) -> None:
        """Lets go of the directory. May be called again."""
        if not self._closed:
            self._closed = True
            self._db.close()
            _open.discard(self.path)

    def _meta(self, position: Position) -> bytes:
        return json.dumps(
            {
                "layout": _LAYOUT,
                "stamp": self._stamp,
                "cluster": self._identity.cluster,
                "partitions": self._identity.partitions,
                "topics": dict(self._identity.topics),
                "sources": {topic: [one.next_offset, one.digest.hex()] for topic, one in position.sources.items()},
                "numbers": dict(position.numbers),
                "manifest": _manifest(self.path),
            }
        ).encode()

    def damage(self, error: Exception) -> NoReturn:
        """Ends the process: the state in memory may rest on rows that can't be read. The next start sets them aside."""
        if not any(words in str(error) for words in _NOT_DAMAGE):
            (self.path / _DAMAGED).write_text(str(error), errors="replace")
        abort("the state on disk can't be used", error, path=self.path)


async def until_closed(path: Path) -> None:
    """Returns once this process has the directory open no more.

    A partition may come back while a checkpoint of its earlier ownership is being written; RocksDB opens a directory
    once. Await this before opening. Raises TimeoutError after CLOSE_S.
    """
    until = time.monotonic() + CLOSE_S
    while path in _open:
        if time.monotonic() > until:
            raise TimeoutError(f"{path} was not closed in time")
        await asyncio.sleep(0.005)


def _manifest(path: Path) -> tuple[str, int]:
    """Name and size of the file in which RocksDB keeps the names of its files; it only grows."""
    try:
        name = (path / "CURRENT").read_text().strip()
        return name, (path / name).stat().st_size
    except (OSError, ValueError):
        return "", 0


def _is_empty(db: Any) -> bool:
    rows = db.iter()
    rows.seek_to_first()
    return not rows.valid()


def _position(kept: Mapping[str, Any]) -> Position:
    sources = {topic: SourcePosition(at, bytes.fromhex(digest)) for topic, (at, digest) in kept["sources"].items()}
    return Position(sources, kept["numbers"])


def set_aside(path: Path, reason: str, trouble: str) -> None:
    """Renames a database's directory, in place of an earlier one that was set aside, and says so."""
    aside = path.with_name(f"{path.name}.set-aside")
    shutil.rmtree(aside, ignore_errors=True)
    private_files.tree(path)
    path.replace(aside)
    (aside / _DAMAGED).unlink(missing_ok=True)
    set_aside_count[reason] = set_aside_count.get(reason, 0) + 1
    log.warning("%s is set aside as %s (%s): %s. The log is folded again.", path, aside.name, reason, trouble)
