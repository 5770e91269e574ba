"""Transactional outbox of notifications: a notice is stored in the transaction of the change that it reports.

A notice is stored in the format of its wire. It is signed, and encrypted where the wire requires it, when it is sent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SCHEMA = """
CREATE TABLE IF NOT EXISTS notices (
    id INTEGER PRIMARY KEY, due_ms INTEGER NOT NULL, tries INTEGER NOT NULL, wire TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS notices_due ON notices (due_ms);
"""


class Notice(NamedTuple):
    """One copy of a notification: when to send it, by which wire, and its body."""

    due_ms: int
    wire: str
    body: str


class QueuedNotice(NamedTuple):
    """A notice in the outbox."""

    id: int
    due_ms: int
    tries: int
    wire: str
    body: str


def enqueue(db: sqlite3.Connection, notices: Iterable[Notice]) -> None:
    """Adds notices in the open transaction."""
    db.executemany("INSERT INTO notices (due_ms, tries, wire, body) VALUES (?, 0, ?, ?)", notices)


class Outbox:
    """The notices of an account book. For the thread that writes the book."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def due(self, at_ms: int, limit: int) -> Sequence[QueuedNotice]:
        """At most `limit` notices due by a time, the longest due first."""
        rows = self._db.execute(
            "SELECT id, due_ms, tries, wire, body FROM notices WHERE due_ms <= ? ORDER BY due_ms, id LIMIT ?",
            (at_ms, limit),
        )
        return [QueuedNotice(*row) for row in rows]

    def count(self) -> int:
        """Number of notices."""
        (count,) = self._db.execute("SELECT count(*) FROM notices").fetchone()
        return int(count)

    def update(self, delivered: Iterable[int], retries: Iterable[tuple[int, int]]) -> None:
        """Deletes `delivered` notices by id and reschedules `retries` by id and time in milliseconds."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("DELETE FROM notices WHERE id = ?", [(one,) for one in delivered])
        self._db.executemany(
            "UPDATE notices SET due_ms = ?, tries = tries + 1 WHERE id = ?", [(due, one) for one, due in retries]
        )
        self._db.execute("COMMIT")
