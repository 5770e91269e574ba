"""Notifications that wait to be sent, kept with the change that they tell of: none is lost, none tells of nothing.

A notice is kept in the words of its wire, unsigned: it is signed, and where the wire wants it encrypted, when it is
sent. Must never be written outside the change's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.rules import Hold

SCHEMA = """
CREATE TABLE IF NOT EXISTS notices (
    id INTEGER PRIMARY KEY, due_ms INTEGER NOT NULL, tries INTEGER NOT NULL, wire TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS notices_due ON notices (due_ms);
"""


class Change(NamedTuple):
    """What a call has done: the call, its answer, the hold as it is now (none, if declined), and when."""

    request: Any
    result: pb.CallResult
    hold: Hold | None
    at_ms: int


class Notice(NamedTuple):
    """One copy of a notification: when it is sent, by which wire, and what it says."""

    due_ms: int
    wire: str
    body: str


class Kept(NamedTuple):
    """A notice as it is kept."""

    id: int
    due_ms: int
    tries: int
    wire: str
    body: str


def keep(db: sqlite3.Connection, notices: Iterable[Notice]) -> None:
    """Keeps notices, in the transaction that is open."""
    db.executemany("INSERT INTO notices (due_ms, tries, wire, body) VALUES (?, 0, ?, ?)", notices)


class Outbox:
    """The notices of a ledger. Only for the thread that writes it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def due(self, at_ms: int, most: int) -> Sequence[Kept]:
        """Those to be sent by now, the longest due first."""
        rows = self._db.execute(
            "SELECT id, due_ms, tries, wire, body FROM notices WHERE due_ms <= ? ORDER BY due_ms, id LIMIT ?",
            (at_ms, most),
        )
        return [Kept(*row) for row in rows]

    def waiting(self) -> int:
        """How many there are."""
        (count,) = self._db.execute("SELECT count(*) FROM notices").fetchone()
        return int(count)

    def settle(self, done: Iterable[int], later: Iterable[tuple[int, int]]) -> None:
        """`done` by id were taken; `later`, by id and time in milliseconds, are to be sent again."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("DELETE FROM notices WHERE id = ?", [(one,) for one in done])
        self._db.executemany(
            "UPDATE notices SET due_ms = ?, tries = tries + 1 WHERE id = ?", [(due, one) for one, due in later]
        )
        self._db.execute("COMMIT")
