"""The merchant's balance: one transaction for each change, and payouts, by wire and currency.

Amounts are stored in the minor units of the wire. A payout takes everything that no payout has included yet.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

SCHEMA = """
CREATE TABLE IF NOT EXISTS balance (
    id INTEGER PRIMARY KEY, wire TEXT NOT NULL, kind INTEGER NOT NULL, hold TEXT NOT NULL, source TEXT NOT NULL,
    currency TEXT NOT NULL, amount_minor INTEGER NOT NULL, fee_minor INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    payout TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS balance_unpaid ON balance (wire, currency) WHERE payout = '';
CREATE INDEX IF NOT EXISTS balance_time ON balance (wire, at_ms);
CREATE INDEX IF NOT EXISTS balance_source ON balance (source);
CREATE INDEX IF NOT EXISTS balance_fees ON balance (hold, fee_minor) WHERE fee_minor != 0;
"""


class Booking(NamedTuple):
    """One balance transaction. Amounts in minor units of its wire; the balance changes by amount less fee."""

    id: int
    wire: str
    kind: pb.BalanceKind.ValueType
    hold: str
    source: str
    currency: str
    amount_minor: int
    fee_minor: int
    at_ms: int
    payout: str

    @property
    def reference(self) -> str:
        """Reference of the transaction."""
        return f"txn_{self.id:024d}"


class Balance:
    """The balance of an account book. `add` and `pay_out` are for the thread that writes the book."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(
        self,
        wire: str,
        kind: pb.BalanceKind.ValueType,
        hold: str,
        source: str,
        currency: str,
        amount_minor: int,
        fee_minor: int,
        at_ms: int,
    ) -> None:
        """Books a change, in the open transaction."""
        self._db.execute(
            "INSERT INTO balance (wire, kind, hold, source, currency, amount_minor, fee_minor, at_ms, payout) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, '')",
            (wire, kind, hold, source, currency, amount_minor, fee_minor, at_ms),
        )

    def pay_out(self, at_ms: int, currency: str = "", wire: str = "") -> list[Booking]:
        """Pays out each positive balance, in the open transaction. Empty `currency` or `wire`: each one."""
        sums = self._db.execute(
            "SELECT wire, currency, SUM(amount_minor - fee_minor) FROM balance "
            "WHERE payout = '' AND ? IN ('', currency) AND ? IN ('', wire) GROUP BY wire, currency ORDER BY 1, 2",
            (currency, wire),
        ).fetchall()
        return [self._pay_out(name, unit, minor, at_ms) for name, unit, minor in sums if minor > 0]

    def _pay_out(self, wire: str, currency: str, amount_minor: int, at_ms: int) -> Booking:
        self.add(wire, pb.BALANCE_KIND_PAYOUT, "", "", currency, -amount_minor, 0, at_ms)
        (row,) = self._db.execute("SELECT last_insert_rowid()").fetchone()
        payout = f"po_{row:024d}"
        self._db.execute("UPDATE balance SET source = ? WHERE id = ?", (payout, row))
        self._db.execute(
            "UPDATE balance SET payout = ? WHERE payout = '' AND wire = ? AND currency = ?", (payout, wire, currency)
        )
        (made,) = self._select("id = ?", (row,))
        return made

    def available(self, wire: str) -> dict[str, int]:
        """Balance of a wire by currency: everything that no payout has included."""
        rows = self._db.execute(
            "SELECT currency, SUM(amount_minor - fee_minor) FROM balance WHERE payout = '' AND wire = ? "
            "GROUP BY currency ORDER BY currency",
            (wire,),
        )
        return {str(currency): int(minor) for currency, minor in rows}

    def before(self, wire: str, at_ms: int) -> int:
        """Sum of the changes of a wire before a time, payouts included."""
        (minor,) = self._db.execute(
            "SELECT COALESCE(SUM(amount_minor - fee_minor), 0) FROM balance WHERE wire = ? AND at_ms < ?", (wire, at_ms)
        ).fetchone()
        return int(minor)

    def page(
        self,
        wire: str,
        *,
        kinds: tuple[int, ...] = (),
        source: str = "",
        payout: str = "",
        since_ms: int = 0,
        until_ms: int = 0,
        before_id: int = 0,
        limit: int = 100,
    ) -> list[Booking]:
        """Transactions of a wire, newest first. `since_ms` is inclusive, `until_ms` and `before_id` are exclusive."""
        clauses = ["wire = ?"]
        values: list[str | int] = [wire]
        for clause, value in (
            ("source = ?", source),
            ("payout = ?", payout),
            ("at_ms >= ?", since_ms),
            ("at_ms < ?", until_ms),
            ("id < ?", before_id),
        ):
            if value:
                clauses.append(clause)
                values.append(value)
        if kinds:
            clauses.append(f"kind IN ({', '.join('?' * len(kinds))})")
            values.extend(kinds)
        values.append(limit)
        return self._select(f"{' AND '.join(clauses)} ORDER BY id DESC LIMIT ?", tuple(values))

    def get(self, booking_id: int) -> Booking | None:
        """A transaction by its number."""
        found = self._select("id = ?", (booking_id,))
        return found[0] if found else None

    def between(self, wire: str, since_ms: int, until_ms: int) -> list[Booking]:
        """Transactions of a wire in a time, the end excluded, oldest first."""
        return self._select("wire = ? AND at_ms >= ? AND at_ms < ? ORDER BY id", (wire, since_ms, until_ms))

    def of_hold(self, hold: str) -> list[Booking]:
        """Transactions of a hold, oldest first."""
        return self._select("hold = ? ORDER BY id", (hold,))

    def all(self) -> Iterator[Booking]:
        """All transactions, oldest first."""
        for row in self._db.execute("SELECT * FROM balance ORDER BY id"):
            yield _booking(row)

    def fees(self) -> dict[str, int]:
        """Sum of the fees by hold, of holds that have any."""
        rows = self._db.execute("SELECT hold, SUM(fee_minor) FROM balance WHERE fee_minor != 0 GROUP BY hold")
        return {str(hold): int(fee) for hold, fee in rows}

    def _select(self, where: str, values: tuple[str | int, ...]) -> list[Booking]:
        return [_booking(row) for row in self._db.execute(f"SELECT * FROM balance WHERE {where}", values)]


def _booking(row: tuple[int | str, ...]) -> Booking:
    return Booking(*row)  # type: ignore[arg-type] # the columns' types are the table's
