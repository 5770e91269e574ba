"""A partition's RocksDB database: the fold of one or more logs, which can be deleted at any time.

A database names the logs that it was folded from, and how far. It is opened only if that still matches: another
cluster, a re-created topic, another number of partitions or other records at the stored offset mean that it belongs to
another log. A database that does not match, or has damaged files, is renamed to `<partition>.set-aside`, logged and
counted, and the logs are folded again. RocksDB verifies the checksum of every block it reads. Damage that is found
while the database is in use marks the database and ends the process; the next start sets it aside.
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

from rocksdict import Rdict, WriteBatch

from eventlog.records.log_position import NO_IDENTITY, LogIdentity, SourcePosition
from eventlog.runtime import private_files
from eventlog.runtime.abort import abort
from eventlog.state.options import options

log = logging.getLogger(__name__)

#: Rows that `keys` and `rows` read with one RocksDB iterator.
BATCH = 256

_META = b"meta"
#: Layout of the meta record.
_LAYOUT = 2
#: A file beside RocksDB's own: why the database must be set aside at the next start.
_DAMAGED = "DAMAGED"
#: The reason for rows that another version of the program wrote.
_OLD = "another version"
#: Parts of RocksDB's error messages that do not mean damage: the machine is short of something, or another process
#: has the database open.
_NOT_DAMAGE = ("No space left", "Too many open files", "Permission denied", "LOCK: ", "Cannot allocate memory")
#: Longest wait for a database that this process is closing: its last write, on another thread, takes less.
CLOSE_S = 60.0

#: Databases that this process has set aside, by reason.
set_aside_count: dict[str, int] = {}

#: Directories that this process has open, including those that close when a write in progress ends.
_open: set[Path] = set()


class _Mismatch(NamedTuple):
    """Why the rows of a database can't be used."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Position:
    """How far the logs are folded, and the numbers that are written with the rows."""

    sources: Mapping[str, SourcePosition] = field(default_factory=dict)
    #: Numbers of the store that uses the database, such as the greatest cause.
    numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing is folded yet."""
        return not self.sources


class Database:
    """Rows of bytes, written in batches that carry the position they reach. RocksDB locks the directory."""

    def __init__(self, path: Path, stamp: str, identity: LogIdentity = NO_IDENTITY) -> None:
        """Opens the database, or a new one if the existing one can't be used.

        `stamp` identifies the meaning of the rows: rows under another stamp are deleted.
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
            found = self._verified(db, manifest)
        except Exception as error:  # noqa: BLE001 - unreadable, whatever the reason
            found = _Mismatch("damaged", repr(error))
        if isinstance(found, Position):
            return db, found
        db.close()
        if found.reason == _OLD:
            log.info("%s: %s; the log is folded again", self.path, found.detail)
            shutil.rmtree(self.path)
        else:
            set_aside(self.path, found.reason, found.detail)
        return Rdict(str(self.path), options()), Position()

    def _verified(self, db: Any, manifest: tuple[str, int]) -> Position | _Mismatch:
        """Returns the position of the rows, or why they can't be used. On damage, RocksDB or the decoder raises."""
        meta = db.get(_META)
        if meta is None:
            return Position() if _is_empty(db) else _Mismatch("damaged", "rows without a position")
        stored = json.loads(meta)
        if (stored["layout"], stored["stamp"]) != (_LAYOUT, self._stamp):
            return _Mismatch(_OLD, f"written as {stored['stamp']}, layout {stored['layout']}")
        name, size = stored["manifest"]
        if manifest[0] == name and manifest[1] < size:
            # RocksDB opens a truncated manifest without an error, and misses the rows of the lost part.
            return _Mismatch("damaged", f"{name} is truncated from {size} to {manifest[1]} bytes")
        detail = self._other_log(stored)
        return _position(stored) if detail is None else _Mismatch("another log", detail)

    def _other_log(self, stored: Mapping[str, Any]) -> str | None:
        """How the stored identity differs from this log's; None: it matches."""
        mine = self._identity
        if mine is NO_IDENTITY:
            return None
        if stored["cluster"] != mine.cluster:
            return f"it was folded from cluster {stored['cluster']}, this cluster is {mine.cluster}"
        if stored["partitions"] != mine.partitions:
            return f"its topics had {stored['partitions']} partitions, now they have {mine.partitions}"
        for topic, topic_id in stored["topics"].items():
            if topic not in mine.topics:
                return f"it was folded from topic {topic}, which this processor does not read"
            if mine.topics[topic] != topic_id:
                return f"topic {topic} had the id {topic_id}, now it has {mine.topics[topic]}"
        return None

    @property
    def closed(self) -> bool:
        """Whether the database is closed."""
        return self._closed

    def get(self, key: bytes) -> bytes | None:
        """The value of a row, or None."""
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:  # noqa: BLE001 - see abort_damaged
            self.abort_damaged(error)
        return value

    def keys(self, start: bytes, prefix: bytes, limit: int = BATCH) -> list[bytes]:
        """At most `limit` keys with a prefix, from `start` on, in order."""
        return [key for key, _ in self._seek(start, prefix, limit, values=False)]

    def rows(self, start: bytes, prefix: bytes, limit: int = BATCH) -> list[tuple[bytes, bytes]]:
        """At most `limit` rows with a prefix, from `start` on, in order."""
        return self._seek(start, prefix, limit, values=True)

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All rows with a prefix, in order. No RocksDB iterator stays open between two rows."""
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
        except Exception as error:  # noqa: BLE001 - see abort_damaged
            self.abort_damaged(error)
        return found

    @staticmethod
    def batch() -> WriteBatch:
        """An empty batch, with `put(key, value)` and `delete(key)`."""
        return WriteBatch(raw_mode=True)

    def write(self, batch: WriteBatch, position: Position) -> None:
        """Writes rows and the position that they reach, all or nothing. May run on another thread."""
        batch.put(_META, self._meta(position))
        try:
            self._db.write(batch)
        except Exception as error:  # noqa: BLE001 - see abort_damaged
            self.abort_damaged(error)
        self.position = position

    def delete_range(self, begin: bytes, end: bytes) -> None:
        """Deletes the rows from `begin` up to, not including, `end`."""
        try:
            self._db.delete_range(begin, end)
        except Exception as error:  # noqa: BLE001 - see abort_damaged
            self.abort_damaged(error)

    def reset(self, reason: str, detail: str) -> None:
        """Sets the database aside and opens an empty one."""
        self._db.close()
        set_aside(self.path, reason, detail)
        self._db, self.position = Rdict(str(self.path), options()), Position()

    def close(self) -> None:
        """Closes the database. Idempotent."""
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

    def abort_damaged(self, error: Exception) -> NoReturn:
        """Ends the process, since the state in memory may rest on unreadable rows. The next start sets them aside."""
        if not any(words in str(error) for words in _NOT_DAMAGE):
            (self.path / _DAMAGED).write_text(str(error), errors="replace")
        abort("the state on disk can't be used", error, path=self.path)


async def until_closed(path: Path) -> None:
    """Waits until this process no longer has the directory open. Await this before opening it.

    A partition may come back while a checkpoint of its earlier ownership is being written, and RocksDB opens a
    directory only once. Raises TimeoutError after CLOSE_S.
    """
    until = time.monotonic() + CLOSE_S
    while path in _open:
        if time.monotonic() > until:
            raise TimeoutError(f"{path} was not closed within {CLOSE_S:g} s")
        await asyncio.sleep(0.005)


def _manifest(path: Path) -> tuple[str, int]:
    """Name and size of RocksDB's manifest, the file that lists its files. It only grows."""
    try:
        name = (path / "CURRENT").read_text().strip()
        return name, (path / name).stat().st_size
    except (OSError, ValueError):
        return "", 0


def _is_empty(db: Any) -> bool:
    rows = db.iter()
    rows.seek_to_first()
    return not rows.valid()


def _position(stored: Mapping[str, Any]) -> Position:
    sources = {topic: SourcePosition(at, bytes.fromhex(digest)) for topic, (at, digest) in stored["sources"].items()}
    return Position(sources, stored["numbers"])


def set_aside(path: Path, reason: str, detail: str) -> None:
    """Renames a database's directory, replacing one that was set aside earlier, and logs and counts it."""
    aside = path.with_name(f"{path.name}.set-aside")
    shutil.rmtree(aside, ignore_errors=True)
    private_files.tree(path)
    path.replace(aside)
    (aside / _DAMAGED).unlink(missing_ok=True)
    set_aside_count[reason] = set_aside_count.get(reason, 0) + 1
    log.warning("%s is set aside as %s (%s): %s. The log is folded again.", path, aside.name, reason, detail)
