"""Incidents of holds that no call of the merchant caused: disputes, undone refunds, operations by hand, and plans.

A plan is an incident that the rules have drawn for a later time.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

SCHEMA = """
CREATE TABLE IF NOT EXISTS disputes (
    dispute TEXT PRIMARY KEY, hold TEXT NOT NULL, amount_minor INTEGER NOT NULL, currency TEXT NOT NULL,
    fee_minor INTEGER NOT NULL, reason TEXT NOT NULL, state INTEGER NOT NULL, opened_ms INTEGER NOT NULL,
    evidence_due_ms INTEGER NOT NULL, takes_money INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS disputes_of_hold ON disputes (hold);
CREATE TABLE IF NOT EXISTS undone_refunds (
    key TEXT PRIMARY KEY, hold TEXT NOT NULL, amount_minor INTEGER NOT NULL, status INTEGER NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS external_operations (
    operation TEXT PRIMARY KEY, hold TEXT NOT NULL, kind INTEGER NOT NULL, amount_minor INTEGER NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS external_operations_of_hold ON external_operations (hold);
CREATE INDEX IF NOT EXISTS undone_refunds_of_hold ON undone_refunds (hold);
CREATE TABLE IF NOT EXISTS fraud_warnings (hold TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS plans (
    id INTEGER PRIMARY KEY, due_ms INTEGER NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS plans_due ON plans (due_ms);
"""

#: States in which a dispute keeps the money that it took.
KEEPS_MONEY = frozenset({pb.DISPUTE_STATE_NEEDS_RESPONSE, pb.DISPUTE_STATE_UNDER_REVIEW, pb.DISPUTE_STATE_LOST})
#: States in which a dispute is over.
CLOSED = frozenset({pb.DISPUTE_STATE_WON, pb.DISPUTE_STATE_LOST})


class Dispute(NamedTuple):
    """A dispute. Amounts in minor units of the hold's wire. Complaints at WeChat Pay take no money."""

    dispute: str
    hold: str
    amount_minor: int
    currency: str
    fee_minor: int
    reason: str
    state: pb.DisputeState.ValueType
    opened_ms: int
    evidence_due_ms: int
    takes_money: bool

    @property
    def taken_minor(self) -> int:
        """Amount that it has taken and not returned."""
        return self.amount_minor if self.takes_money and self.state in KEEPS_MONEY else 0


class Plan(NamedTuple):
    """A planned incident and its subject: a hold, a refund's key, or a dispute."""

    id: int
    due_ms: int
    kind: str
    subject: str


class Incidents:
    """The incidents of an account book. Changes are for the thread that writes the book, in the open transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        (first,) = db.execute("SELECT MIN(due_ms) FROM plans").fetchone()
        #: Time of the next plan; None: there is none.
        self.next_due_ms: int | None = first
        (any_,) = db.execute("SELECT EXISTS (SELECT 1 FROM disputes)").fetchone()
        #: Whether a hold was disputed.
        self.any_dispute = bool(any_)

    def plan(self, due_ms: int, kind: str, subject: str) -> None:
        """Plans an incident."""
        self._db.execute("INSERT INTO plans (due_ms, kind, subject) VALUES (?, ?, ?)", (due_ms, kind, subject))
        self.next_due_ms = due_ms if self.next_due_ms is None else min(self.next_due_ms, due_ms)

    def take_due(self, at_ms: int, limit: int) -> list[Plan]:
        """Removes and returns plans that are due, the longest due first."""
        rows = self._db.execute("SELECT * FROM plans WHERE due_ms <= ? ORDER BY due_ms, id LIMIT ?", (at_ms, limit))
        taken = [Plan(*row) for row in rows]
        self._db.executemany("DELETE FROM plans WHERE id = ?", [(one.id,) for one in taken])
        (self.next_due_ms,) = self._db.execute("SELECT MIN(due_ms) FROM plans").fetchone()
        return taken

    def save_dispute(self, dispute: Dispute) -> None:
        """Stores a dispute, or replaces it."""
        self.any_dispute = True
        self._db.execute("INSERT OR REPLACE INTO disputes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", dispute)

    def dispute(self, name: str) -> Dispute | None:
        """A dispute by its reference."""
        row = self._db.execute("SELECT * FROM disputes WHERE dispute = ?", (name,)).fetchone()
        return _dispute(row) if row else None

    def disputes(self, hold: str = "") -> list[Dispute]:
        """Disputes of a hold, or of all, in order of their opening."""
        where, values = ("WHERE hold = ?", (hold,)) if hold else ("", ())
        rows = self._db.execute(f"SELECT * FROM disputes {where} ORDER BY opened_ms, dispute", values)
        return [_dispute(row) for row in rows]

    def undo(self, key: str, hold: str, amount_minor: int, status: pb.Status.ValueType, at_ms: int) -> None:
        """Records that a refund was undone."""
        self._db.execute("INSERT INTO undone_refunds VALUES (?, ?, ?, ?, ?)", (key, hold, amount_minor, status, at_ms))

    def undone(self, key: str) -> pb.Status.ValueType | None:
        """How a refund was undone; None: it was not."""
        row = self._db.execute("SELECT status FROM undone_refunds WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def undone_of(self, hold: str) -> dict[str, pb.Status.ValueType]:
        """The undone refunds of a hold: how, by key."""
        return dict(self._db.execute("SELECT key, status FROM undone_refunds WHERE hold = ?", (hold,)).fetchall())

    def add_external(
        self, operation: str, hold: str, kind: pb.ExternalKind.ValueType, amount_minor: int, at_ms: int
    ) -> None:
        """Records an operation by hand."""
        self._db.execute(
            "INSERT INTO external_operations VALUES (?, ?, ?, ?, ?)", (operation, hold, kind, amount_minor, at_ms)
        )

    def warn(self, hold: str, at_ms: int) -> bool:
        """Records a fraud warning. Returns False if the hold has one."""
        return bool(self._db.execute("INSERT OR IGNORE INTO fraud_warnings VALUES (?, ?)", (hold, at_ms)).rowcount)

    def warnings(self, hold: str = "") -> dict[str, int]:
        """Times of fraud warnings by hold, of one hold or of all."""
        where, values = ("WHERE hold = ?", (hold,)) if hold else ("", ())
        rows = self._db.execute(f"SELECT hold, at_ms FROM fraud_warnings {where} ORDER BY at_ms", values)
        return {str(name): int(at_ms) for name, at_ms in rows}

    def externals(self, hold: str) -> int:
        """Number of operations by hand on a hold."""
        (count,) = self._db.execute("SELECT count(*) FROM external_operations WHERE hold = ?", (hold,)).fetchone()
        return int(count)


class Histories(NamedTuple):
    """The lines that a statement adds to its holds, by hold. Amounts in minor units of the hold's wire."""

    undone: dict[str, int]
    disputes: dict[str, list[Dispute]]
    external: dict[str, list[pb.ExternalOperation]]
    fees: dict[str, int]
    environments: dict[str, str]


NO_HISTORIES = Histories({}, {}, {}, {}, {})


def histories(db: sqlite3.Connection, fees: dict[str, int]) -> Histories:
    """Reads what happened to all holds. Holds without incidents take no memory."""
    undone = db.execute("SELECT hold, SUM(amount_minor) FROM undone_refunds GROUP BY hold").fetchall()
    disputes: dict[str, list[Dispute]] = {}
    for row in db.execute("SELECT * FROM disputes ORDER BY opened_ms, dispute"):
        disputes.setdefault(row[1], []).append(_dispute(row))
    external: dict[str, list[pb.ExternalOperation]] = {}
    for operation, hold, kind, minor, at_ms in db.execute(
        "SELECT * FROM external_operations ORDER BY at_ms, operation"
    ):
        made = pb.ExternalOperation(operation=operation, kind=kind, amount_minor=minor, at_ms=at_ms)
        external.setdefault(hold, []).append(made)
    environments = db.execute("SELECT hold, environment FROM call_details WHERE environment != ''").fetchall()
    return Histories(dict(undone), disputes, external, fees, dict(environments))


def _dispute(row: tuple[object, ...]) -> Dispute:
    return Dispute(*row)._replace(takes_money=bool(row[-1]))  # type: ignore[arg-type] # as the table's columns
