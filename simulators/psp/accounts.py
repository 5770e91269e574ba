"""The provider's books in SQLite: every call by its idempotency key, every hold with what became of its money.

Calls are applied in batches, one transaction each; a result may be given away only after `apply` has returned. Nothing
is ever deleted: keys are honoured for ever.

How durable: WAL with synchronous=NORMAL. A commit is handed to the kernel before `apply` returns, so it survives the
death of this process by any signal, which is what tests inflict. It may be lost (never torn) when the machine itself
loses power, as only checkpoints wait for the disk. synchronous=FULL would mend that at the price of one fsync a commit,
on the disk that the broker under test writes to; a provider that only ever plays with toy money need not pay it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from google.protobuf.message import Message
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp import outbox, rules, statement
from simulators.psp.outbox import Change, Notice
from simulators.psp.rules import (
    NO_DECLINES,
    Declines,
    Hold,
    KeyReused,
    NotConfirmable,
    NotFound,
    Refusal,
    State,
)

__all__ = ["Account", "Declines", "Ledger", "LedgerUnusable", "Request"]

#: What the ledger can be asked to do.
Request: TypeAlias = (
    pb.AuthoriseRequest | pb.CaptureRequest | pb.VoidRequest | pb.RefundRequest | pb.LookUpRequest | pb.ConfirmRequest
)

SCHEMA_VERSION = 1

# The checks are the books' own proof: a defect in the rules fails the transaction before it can spoil them.
SCHEMA = f"""
CREATE TABLE calls (
    key TEXT PRIMARY KEY, fingerprint BLOB NOT NULL, hold TEXT NOT NULL, result BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE holds (
    hold TEXT PRIMARY KEY, key TEXT NOT NULL, order_id TEXT NOT NULL, group_id TEXT NOT NULL, currency TEXT NOT NULL,
    payment_method TEXT NOT NULL, sale INTEGER NOT NULL, state INTEGER NOT NULL, asked_minor INTEGER NOT NULL,
    authorised_minor INTEGER NOT NULL, captured_minor INTEGER NOT NULL, released_minor INTEGER NOT NULL,
    refunded_minor INTEGER NOT NULL, captures INTEGER NOT NULL, until_ms INTEGER NOT NULL,
    CHECK (authorised_minor IN (0, asked_minor)),
    CHECK (captured_minor >= 0 AND released_minor >= 0 AND refunded_minor BETWEEN 0 AND captured_minor),
    CHECK (captures = (captured_minor > 0)),
    CHECK (captured_minor + released_minor = CASE state WHEN {State.OPEN} THEN 0 ELSE authorised_minor END)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
"""

# Came later than the tables, and are made where they are missing.
ADDED = f"""
CREATE INDEX IF NOT EXISTS calls_of_hold ON calls (hold);
{outbox.SCHEMA}
"""

#: A hold's fields in the order of the table's columns.
_COLUMNS = attrgetter(*Hold.__slots__)
_SAVE_HOLD = f"INSERT OR REPLACE INTO holds VALUES ({', '.join('?' * len(Hold.__slots__))})"


class Account(NamedTuple):
    """A hold as it is now, and the calls about it by their keys, the authorisation too."""

    hold: Hold
    calls: dict[str, pb.CallResult]


class LedgerUnusable(Exception):
    """The file is not a ledger of this version. Name another one."""


class Ledger:
    """The books. Not for use by two threads at once, other than `statement`."""

    def __init__(self, path: Path, clock_ms: Callable[[], int], hold_life_ms: int = 0) -> None:
        """Opens the books, or begins new ones. Raises LedgerUnusable."""
        self._path = path
        self._clock_ms = clock_ms
        self.hold_life_ms = hold_life_ms
        self.declines = NO_DECLINES
        #: What is told to the merchant of a change; kept in the change's own transaction.
        self.notices: Callable[[Change], Iterable[Notice]] = lambda change: ()
        #: Transactions made.
        self.commits = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = _connect(path)
            self._db.execute("PRAGMA journal_mode = WAL").fetchone()
            self._db.execute("PRAGMA synchronous = NORMAL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
            if version in {0, SCHEMA_VERSION}:
                self._db.executescript(f"BEGIN IMMEDIATE; {ADDED} COMMIT;")
        except sqlite3.Error as error:
            raise LedgerUnusable(f"{path}: {error}") from error
        if version not in {0, SCHEMA_VERSION}:
            raise LedgerUnusable(f"{path} has version {version}, not {SCHEMA_VERSION}")

    def close(self) -> None:
        """Ends the use of the books."""
        self._db.close()

    def apply(self, requests: Sequence[Request]) -> list[pb.CallResult | Refusal]:
        """Makes calls in order, in one transaction; answers in the same order. All of them or, if it raises, none."""
        at_ms = self._clock_ms()
        answers: list[pb.CallResult | Refusal] = []
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for request in requests:
                try:
                    answers.append(self._answer(request, at_ms))
                except Refusal as refusal:
                    answers.append(refusal)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self.commits += 1
        return answers

    def account(self, hold: str) -> Account:
        """What the books say of a hold. Raises NotFound."""
        found = self._load(hold)
        found.lapse(self._clock_ms())
        rows = self._db.execute("SELECT key, result FROM calls WHERE hold = ? ORDER BY key", (hold,))
        return Account(found, {key: pb.CallResult.FromString(result) for key, result in rows})

    @property
    def outbox(self) -> outbox.Outbox:
        """Notifications that wait to be sent."""
        return outbox.Outbox(self._db)

    def statement(self) -> Iterator[pb.StatementEntry]:
        """The books at one moment, by hold, on a connection of its own: may run in another thread, beside `apply`.

        A hold that its owner never confirmed had no money in it, and is not in the books. One whose time is over counts
        as let go, also if no call has met it since.
        """
        at_ms = self._clock_ms()
        with closing(_connect(self._path)) as db:
            for row in db.execute("SELECT * FROM holds WHERE authorised_minor > 0 ORDER BY hold"):
                hold = _hold(row)
                hold.lapse(at_ms)
                yield statement.entry(hold)

    def _answer(self, request: Request, at_ms: int) -> pb.CallResult:
        if isinstance(request, pb.LookUpRequest):
            return self._call(request.key)[2]
        if isinstance(request, pb.ConfirmRequest):
            return self._confirm(request, at_ms)
        fingerprint = _fingerprint(request)
        seen = self._db.execute("SELECT fingerprint, result FROM calls WHERE key = ?", (request.key,)).fetchone()
        if seen is not None:
            if seen[0] != fingerprint:
                raise KeyReused(f"key {request.key} names another call")
            return pb.CallResult.FromString(seen[1])
        hold, result = self._make(request, at_ms)
        if hold is not None:
            self._save(hold)
        self._db.execute(
            "INSERT INTO calls VALUES (?, ?, ?, ?)",
            (request.key, fingerprint, result.hold, result.SerializeToString()),
        )
        outbox.keep(self._db, self.notices(Change(request, result, hold, at_ms)))
        return result

    def _make(
        self, request: pb.AuthoriseRequest | pb.CaptureRequest | pb.VoidRequest | pb.RefundRequest, at_ms: int
    ) -> tuple[Hold | None, pb.CallResult]:
        if isinstance(request, pb.AuthoriseRequest):
            return rules.authorise(request, at_ms, self._life_ms(), self.declines)
        hold = self._load(request.hold)
        if isinstance(request, pb.CaptureRequest):
            return hold, rules.capture(hold, request, at_ms)
        if isinstance(request, pb.VoidRequest):
            return hold, rules.void(hold, request, at_ms)
        return hold, rules.refund(hold, request, at_ms)

    def _confirm(self, request: pb.ConfirmRequest, at_ms: int) -> pb.CallResult:
        hold_id, _, result = self._call(request.key)
        if result.status == pb.STATUS_AUTHORISED:
            return result
        if result.status != pb.STATUS_ACTION_REQUIRED:
            raise NotConfirmable(f"call {request.key} does not wait for a confirmation")
        hold = self._load(hold_id)
        result = rules.confirm(hold, at_ms, self._life_ms())
        self._save(hold)
        self._db.execute("UPDATE calls SET result = ? WHERE key = ?", (result.SerializeToString(), request.key))
        outbox.keep(self._db, self.notices(Change(request, result, hold, at_ms)))
        return result

    def _life_ms(self) -> int:
        return self.hold_life_ms or rules.SEVEN_DAYS_MS

    def _call(self, key: str) -> tuple[str, bytes, pb.CallResult]:
        row = self._db.execute("SELECT hold, fingerprint, result FROM calls WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise NotFound(f"no call {key}")
        return row[0], row[1], pb.CallResult.FromString(row[2])

    def _load(self, hold: str) -> Hold:
        row = self._db.execute("SELECT * FROM holds WHERE hold = ?", (hold,)).fetchone()
        if row is None:
            raise NotFound(f"no hold {hold}")
        return _hold(row)

    def _save(self, hold: Hold) -> None:
        self._db.execute(_SAVE_HOLD, _COLUMNS(hold))


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are begun by hand. The thread that makes the ledger is not the one that writes to it.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)


def _hold(row: tuple[Any, ...]) -> Hold:
    return Hold(*(*row[:6], bool(row[6]), State(row[7]), *row[8:]))


def _fingerprint(request: Message) -> bytes:
    """What a key stands for: the operation and the whole payload."""
    payload = request.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\0" + payload).digest()
