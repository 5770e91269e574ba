"""Details of calls beside their money: time, metadata and customer. For objects and searches of the HTTP APIs.

Calls over gRPC without metadata and environment have none. A call whose metadata is only its key, order and group
stores no metadata; readers rebuild it.
"""

from __future__ import annotations

import json
import sqlite3
from typing import NamedTuple

SCHEMA = """
CREATE TABLE IF NOT EXISTS call_details (
    key TEXT PRIMARY KEY, hold TEXT NOT NULL, at_ms INTEGER NOT NULL, environment TEXT NOT NULL, customer TEXT NOT NULL,
    named_key TEXT NOT NULL, named_order TEXT NOT NULL, metadata TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS call_details_key ON call_details (named_key);
CREATE INDEX IF NOT EXISTS call_details_order ON call_details (named_order);
CREATE INDEX IF NOT EXISTS call_details_environment ON call_details (hold) WHERE environment != '';
"""

#: Separates a key from the number of its life, if the key was used again after it had expired.
LIFE_SEPARATOR = "\x1f"
#: Prefix of the keys of operations by hand, which are their references too.
BY_HAND = "dashboard_"


class Details(NamedTuple):
    """Details of one call. `metadata` None: the standard one."""

    at_ms: int = 0
    environment: str = ""
    customer: str = ""
    metadata: dict[str, str] | None = None


NO_DETAILS = Details()


def named_key(key: str) -> str:
    """The key as the merchant gave it."""
    return key.partition(LIFE_SEPARATOR)[0]


def by_hand(key: str) -> bool:
    """Whether a call was made by a person in the provider's dashboard."""
    return key.startswith(BY_HAND)


class DetailStore:
    """The details of an account book's calls. For the thread that writes the book."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        (any_,) = db.execute("SELECT EXISTS (SELECT 1 FROM call_details)").fetchone()
        #: Whether there are none.
        self.empty = not any_

    def add(self, key: str, hold: str, order: str, details: Details) -> None:
        """Stores the details of a call, in the open transaction."""
        self.empty = False
        metadata = details.metadata
        names = (named_key(key), order) if metadata is None else (metadata.get("key", ""), metadata.get("order", ""))
        text = "" if metadata is None else json.dumps(metadata, ensure_ascii=False)
        self._db.execute(
            "INSERT OR REPLACE INTO call_details VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (key, hold, details.at_ms, details.environment, details.customer, *names, text),
        )

    def get(self, key: str) -> Details:
        """Details of a call; NO_DETAILS if it has none."""
        row = self._db.execute(
            "SELECT at_ms, environment, customer, metadata FROM call_details WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return NO_DETAILS
        return Details(row[0], row[1], row[2], json.loads(row[3]) if row[3] else None)

    def of_hold(self, hold: str) -> dict[str, Details]:
        """Details by key of the calls of a hold."""
        rows = self._db.execute(
            "SELECT d.key, d.at_ms, d.environment, d.customer, d.metadata FROM calls c JOIN call_details d USING (key) "
            "WHERE c.hold = ?",
            (hold,),
        )
        return {row[0]: Details(row[1], row[2], row[3], json.loads(row[4]) if row[4] else None) for row in rows}

    def holds_named(self, name: str, value: str) -> list[tuple[str, int]]:
        """Holds whose authorisation names a value in its metadata, with their times. `name`: key or order."""
        column = {"key": "named_key", "order": "named_order"}[name]
        rows = self._db.execute(
            f"SELECT d.hold, d.at_ms FROM call_details d JOIN holds h ON h.hold = d.hold AND h.key = d.key "
            f"WHERE d.{column} = ? ORDER BY d.at_ms DESC",
            (value,),
        )
        return [(str(hold), int(at_ms)) for hold, at_ms in rows]
