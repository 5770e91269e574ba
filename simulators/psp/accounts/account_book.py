"""The provider's accounts in SQLite: calls by idempotency key, and holds with their money.

Calls are applied in batches, one transaction each. A result may be sent only after `apply` has returned. Keys are
honoured for ever, as nothing is deleted.

Durability: WAL with synchronous=NORMAL. A commit reaches the operating system before `apply` returns, so it survives
SIGKILL, which is how tests stop this process. A power failure may lose the last commits whole, as only checkpoints wait
for the disk. synchronous=FULL would add an fsync for each commit, on the disk that the broker under test writes to.
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

from simulators.psp.accounts import holds, statement_entries
from simulators.psp.accounts.holds import (
    NO_DECLINES,
    Change,
    Hold,
    HoldState,
    KeyReused,
    NotConfirmable,
    NotFound,
    Refusal,
)
from simulators.psp.notifications import outbox
from simulators.psp.notifications.outbox import Notice

#: Calls that an account book applies.
Request: TypeAlias = (
    pb.AuthoriseRequest | pb.CaptureRequest | pb.VoidRequest | pb.RefundRequest | pb.LookUpRequest | pb.ConfirmRequest
)

SCHEMA_VERSION = 1

# The checks fail the transaction if a defect in the rules breaks the sums of a hold.
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
    CHECK (captured_minor + released_minor = CASE state WHEN {HoldState.OPEN} THEN 0 ELSE authorised_minor END)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
"""

# Added after version 1 was in use, and created where missing.
ADDITIONS = f"""
CREATE INDEX IF NOT EXISTS calls_of_hold ON calls (hold);
{outbox.SCHEMA}
"""

#: A hold's fields in the order of the table's columns.
_COLUMNS = attrgetter(*Hold.__slots__)
_SAVE_HOLD = f"INSERT OR REPLACE INTO holds VALUES ({', '.join('?' * len(Hold.__slots__))})"


class Account(NamedTuple):
    """A hold, and its calls by idempotency key, the authorisation included."""

    hold: Hold
    calls: dict[str, pb.CallResult]


class AccountBookUnusable(Exception):
    """The file is no account book of this version. Configure another file."""


class AccountBook:
    """Accounts of all holds. For one thread at a time, except `statement`."""

    def __init__(self, path: Path, clock_ms: Callable[[], int], hold_life_ms: int = 0) -> None:
        """Opens the file, or creates it. `hold_life_ms` 0: seven days. Raises AccountBookUnusable."""
        self._path = path
        self._clock_ms = clock_ms
        self.hold_life_ms = hold_life_ms
        self.declines = NO_DECLINES
        #: Notices of a change for the merchant; stored in the transaction of the change.
        self.notices: Callable[[Change], Iterable[Notice]] = lambda change: ()
        #: Transactions committed.
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
                self._db.executescript(f"BEGIN IMMEDIATE; {ADDITIONS} COMMIT;")
        except sqlite3.Error as error:
            raise AccountBookUnusable(f"{path}: {error}") from error
        if version not in {0, SCHEMA_VERSION}:
            raise AccountBookUnusable(f"{path} has version {version}, not {SCHEMA_VERSION}")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def apply(self, requests: Sequence[Request]) -> list[pb.CallResult | Refusal]:
        """Applies calls in order in one transaction, or none if it raises. Returns their answers in the same order."""
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
        """A hold and its calls. Raises NotFound."""
        found = self._load(hold)
        found.expire(self._clock_ms())
        rows = self._db.execute("SELECT key, result FROM calls WHERE hold = ? ORDER BY key", (hold,))
        return Account(found, {key: pb.CallResult.FromString(result) for key, result in rows})

    @property
    def outbox(self) -> outbox.Outbox:
        """The notices to be sent."""
        return outbox.Outbox(self._db)

    def statement(self) -> Iterator[pb.StatementEntry]:
        """Entries by hold at one moment. Uses its own connection, so it may run in another thread than `apply`.

        A hold that was not confirmed held no money and has no entry. An expired hold counts as released, whether or not
        a call has touched it since.
        """
        at_ms = self._clock_ms()
        with closing(_connect(self._path)) as db:
            for row in db.execute("SELECT * FROM holds WHERE authorised_minor > 0 ORDER BY hold"):
                hold = _hold(row)
                hold.expire(at_ms)
                yield statement_entries.statement_entry(hold)

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
        outbox.enqueue(self._db, self.notices(Change(request, result, hold, at_ms)))
        return result

    def _make(
        self, request: pb.AuthoriseRequest | pb.CaptureRequest | pb.VoidRequest | pb.RefundRequest, at_ms: int
    ) -> tuple[Hold | None, pb.CallResult]:
        if isinstance(request, pb.AuthoriseRequest):
            return holds.authorise(request, at_ms, self._life_ms(), self.declines)
        hold = self._load(request.hold)
        if isinstance(request, pb.CaptureRequest):
            return hold, holds.capture(hold, request, at_ms)
        if isinstance(request, pb.VoidRequest):
            return hold, holds.void(hold, request, at_ms)
        return hold, holds.refund(hold, request, at_ms)

    def _confirm(self, request: pb.ConfirmRequest, at_ms: int) -> pb.CallResult:
        hold_id, _, result = self._call(request.key)
        if result.status == pb.STATUS_AUTHORISED:
            return result
        if result.status != pb.STATUS_ACTION_REQUIRED:
            raise NotConfirmable(f"call {request.key} does not wait for a confirmation")
        hold = self._load(hold_id)
        result = holds.confirm(hold, at_ms, self._life_ms())
        self._save(hold)
        self._db.execute("UPDATE calls SET result = ? WHERE key = ?", (result.SerializeToString(), request.key))
        outbox.enqueue(self._db, self.notices(Change(request, result, hold, at_ms)))
        return result

    def _life_ms(self) -> int:
        return self.hold_life_ms or holds.SEVEN_DAYS_MS

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
    # Transactions are explicit. The connection is opened in one thread and used in another.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)


def _hold(row: tuple[Any, ...]) -> Hold:
    return Hold(*(*row[:6], bool(row[6]), HoldState(row[7]), *row[8:]))


def _fingerprint(request: Message) -> bytes:
    """Digest of the operation and the payload, to detect a reused key."""
    payload = request.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\0" + payload).digest()
