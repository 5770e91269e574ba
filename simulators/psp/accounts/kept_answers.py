"""Answers that idempotency keys keep, as Stripe's API does: whole HTTP answers, failures included."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

SCHEMA = """
CREATE TABLE IF NOT EXISTS kept_answers (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, life INTEGER NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""


class KeptAnswer(NamedTuple):
    """An answer, the digest of its request, and how often its key had expired before."""

    fingerprint: str
    life: int
    status: int
    body: str
    at_ms: int


class KeptAnswers:
    """The answers of an account book. For the thread that writes the book."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get(self, key: str) -> KeptAnswer | None:
        """The last answer of a key."""
        row = self._db.execute(
            "SELECT fingerprint, life, status, body, at_ms FROM kept_answers WHERE key = ?", (key,)
        ).fetchone()
        return KeptAnswer(*row) if row else None

    def put(self, key: str, answer: KeptAnswer) -> None:
        """Stores the answer of a key, in a transaction of its own."""
        self._db.execute("INSERT OR REPLACE INTO kept_answers VALUES (?, ?, ?, ?, ?, ?)", (key, *answer))
