"""Undecodable records of a projection's partition whose dead letters are not acknowledged yet.

They are rows of the partition's database: a standby stores those that it passes, and a new owner sends their dead
letters.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from eventlog.state.database import Database

_DEAD = b"x"


class Undelivered(NamedTuple):
    """An undecodable record whose dead letter is not acknowledged yet."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    error: str

    @property
    def row(self) -> bytes:
        """Key of its row in the database."""
        return _DEAD + self.topic.encode() + b"\0" + self.offset.to_bytes(8, "big")


class UndeliveredRecords:
    """The undelivered records of one partition, in memory and on disk."""

    def __init__(self, database: Database) -> None:
        self._db = database
        #: Not acknowledged and not on disk.
        self._unwritten: dict[bytes, Undelivered] = {}
        #: Rows on disk.
        self._rows: set[bytes] = {row for row, _ in database.scan(_DEAD)}
        #: Rows on disk whose dead letters are acknowledged.
        self._acknowledged: list[bytes] = []
        #: Unwritten records of the last write that began.
        self._saving: list[Undelivered] = []

    @property
    def acknowledged(self) -> bool:
        """Whether a write has rows to delete."""
        return bool(self._acknowledged)

    def add(self, record: Undelivered) -> None:
        """Adds a record."""
        self._unwritten[record.row] = record

    def due(self, topic: str, committed: int) -> list[Undelivered]:
        """Records of a topic whose dead letters may be missing, in order.

        Those before the committed offset are not: an owner commits after the dead letters are acknowledged.
        """
        found = dict(self._unwritten)
        for row in self._rows - found.keys():
            value = self._db.get(row)
            if value is not None:
                found[row] = _DECODER.decode(value)
        due = []
        for row, one in found.items():
            if one.topic != topic:
                continue
            if one.offset < committed:
                self.acknowledge(row)
            else:
                due.append(one)
        return sorted(due, key=lambda one: one.offset)

    def acknowledge(self, row: bytes) -> None:
        """The dead letter of a row is acknowledged."""
        self._unwritten.pop(row, None)
        if row in self._rows:
            self._rows.discard(row)
            self._acknowledged.append(row)

    def begin_write(self) -> tuple[list[bytes], list[Undelivered]]:
        """Rows to delete, and records to write with `encode`."""
        deleted, self._acknowledged = self._acknowledged, []
        self._saving = list(self._unwritten.values())
        self._rows.update(one.row for one in self._saving)
        return deleted, self._saving

    def end_write(self) -> None:
        """The write that was begun is on disk."""
        for one in self._saving:
            self._unwritten.pop(one.row, None)
        self._saving = []


def encode(record: Undelivered) -> bytes:
    """Value of a record's row."""
    return _ENCODER.encode(record)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Undelivered] = msgspec.msgpack.Decoder(Undelivered)
