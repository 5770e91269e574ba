"""The provider's accounts in SQLite: calls by idempotency key, and holds with their money.

Changes of a hold that the merchant did not call for are in `provider_life`, which changes the book by its
`transaction`.

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
from contextlib import closing, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from google.protobuf.message import Message
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts import (
    balance,
    details,
    holds,
    incidents,
    kept_answers,
    payment_methods,
    statement_entries,
)
from simulators.psp.accounts.balance import Balance, Booking
from simulators.psp.accounts.consequences import Consequences
from simulators.psp.accounts.details import Details
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
from simulators.psp.stripe import objects as stripe_objects

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
{outbox.SCHEMA} {details.SCHEMA} {balance.SCHEMA} {incidents.SCHEMA} {payment_methods.SCHEMA}
{kept_answers.SCHEMA}
"""

#: A hold's fields in the order of the table's columns.
_COLUMNS = attrgetter(*Hold.__slots__)
_SAVE_HOLD = f"INSERT OR REPLACE INTO holds VALUES ({', '.join('?' * len(Hold.__slots__))})"


#: Reasons for which a refund is declined.
REFUND_REFUSED, DISPUTED = "refund refused", "disputed"


class Account(NamedTuple):
    """A hold, its calls by idempotency key, the authorisation included, their details, and its undone refunds."""

    hold: Hold
    calls: dict[str, pb.CallResult]
    details: dict[str, Details]
    undone: dict[str, pb.Status.ValueType]


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
        #: Notices of a change for the merchant, stored in the transaction of the change; None: there are none.
        self.notices: Callable[[Change], Iterable[Notice]] | None = None
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
        self.consequences = Consequences(self._db)
        self.incidents = self.consequences.incidents
        self.balance = self.consequences.balance
        self.details = self.consequences.details
        self.payment_methods = payment_methods.PaymentMethods(self._db)
        self.kept_answers = kept_answers.KeptAnswers(self._db)

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def apply(self, requests: Sequence[Request]) -> list[pb.CallResult | Refusal]:
        """Applies calls in order in one transaction, or none if it raises. Returns their answers in the same order."""
        answers: list[pb.CallResult | Refusal] = []
        with self.transaction() as at_ms:
            for request in requests:
                try:
                    answers.append(self._answer(request, at_ms))
                except Refusal as refusal:
                    answers.append(refusal)
        return answers

    @contextmanager
    def transaction(self) -> Iterator[int]:
        """A transaction, which is rolled back if its body raises. Yields the time in milliseconds."""
        at_ms = self._clock_ms()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield at_ms
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self.commits += 1

    def account(self, hold: str) -> Account:
        """A hold and its calls. Raises NotFound."""
        found = self.load(hold)
        found.expire(self._clock_ms())
        rows = self._db.execute("SELECT key, result FROM calls WHERE hold = ? ORDER BY key", (hold,))
        calls = {key: pb.CallResult.FromString(result) for key, result in rows}
        return Account(found, calls, self.details.of_hold(hold), self.incidents.undone_of(hold))

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
            db.execute("BEGIN")
            histories = incidents.histories(db, Balance(db).fees())
            for row in db.execute("SELECT * FROM holds WHERE authorised_minor > 0 ORDER BY hold"):
                hold = _hold(row)
                hold.expire(at_ms)
                yield statement_entries.statement_entry(hold, histories)

    def balance_statement(self) -> Iterator[tuple[Booking, Hold | None]]:
        """Balance transactions with their holds, oldest first, at one moment. Uses its own connection."""
        with closing(_connect(self._path)) as db:
            db.execute("BEGIN")
            for booking in Balance(db).all():
                row = db.execute("SELECT * FROM holds WHERE hold = ?", (booking.hold,)).fetchone()
                yield booking, _hold(row) if row is not None else None

    def announce(self, request: Any, result: pb.CallResult, hold: Hold | None, at_ms: int) -> None:
        """Stores the notices of a change, in the open transaction."""
        if self.notices is None:
            return
        made = details.NO_DETAILS
        if hold is not None and not self.details.empty:
            made = self.details.get(hold.key)
        change = Change(request, result, hold, at_ms, made.metadata, made.environment, made.at_ms)
        outbox.enqueue(self._db, self.notices(change))

    def record(self, key: str, fingerprint: bytes, result: pb.CallResult) -> None:
        """Stores the result of a call, in the open transaction."""
        self._db.execute(
            "INSERT INTO calls VALUES (?, ?, ?, ?)", (key, fingerprint, result.hold, result.SerializeToString())
        )

    def _answer(self, request: Request, at_ms: int) -> pb.CallResult:
        if isinstance(request, pb.LookUpRequest):
            if request.hold:
                return holds.state_of(self.load(request.hold), request.key, at_ms)
            return self.look_up(request.key)
        if isinstance(request, pb.ConfirmRequest):
            return self._confirm(request, at_ms)
        fingerprint = fingerprint_of(request)
        seen = self._db.execute("SELECT fingerprint, result FROM calls WHERE key = ?", (request.key,)).fetchone()
        if seen is not None:
            if seen[0] != fingerprint:
                raise KeyReused(f"key {request.key} names another call")
            return pb.CallResult.FromString(seen[1])
        hold, result = self._make(request, at_ms)
        self.record(request.key, fingerprint, result)
        if hold is not None:
            self.save(hold)
            self.consequences.record(request, result, hold, at_ms)
        self.announce(request, result, hold, at_ms)
        return result

    def _make(
        self, request: pb.AuthoriseRequest | pb.CaptureRequest | pb.VoidRequest | pb.RefundRequest, at_ms: int
    ) -> tuple[Hold | None, pb.CallResult]:
        if isinstance(request, pb.AuthoriseRequest):
            return self._authorise(request, at_ms)
        hold = self.load(request.hold)
        if isinstance(request, pb.CaptureRequest):
            return hold, holds.capture(hold, request, at_ms)
        if isinstance(request, pb.VoidRequest):
            return hold, holds.void(hold, request, at_ms)
        return hold, holds.refund(hold, request, at_ms, self._obstacle(hold, request.key))

    def _authorise(self, request: pb.AuthoriseRequest, at_ms: int) -> tuple[Hold | None, pb.CallResult]:
        stripe = stripe_objects.owns(request.payment_method)
        single_use = stripe and self.consequences.rules.behaviour.single_use_methods
        if single_use:
            self.payment_methods.check(request)
        hold, result = holds.authorise(request, at_ms, self._life_ms(), self.declines)
        if hold is not None and stripe and (single_use or request.save_method):
            self.payment_methods.use(request)
        return hold, result

    def _obstacle(self, hold: Hold, key: str) -> str:
        """Reason for which a refund is declined; empty: none."""
        if self.consequences.rules.refuses_refund(hold, key) and not details.by_hand(key):
            return REFUND_REFUSED
        if not self.incidents.any_dispute:
            return ""
        return DISPUTED if any(one.taken_minor for one in self.incidents.disputes(hold.hold)) else ""

    def look_up(self, key: str) -> pb.CallResult:
        """The current result of a call. Raises NotFound."""
        result = self._call(key)[2]
        if result.status == pb.STATUS_REFUNDED and (undone := self.incidents.undone(key)) is not None:
            result.status = undone
        return result

    def _confirm(self, request: pb.ConfirmRequest, at_ms: int) -> pb.CallResult:
        hold_id, _, result = self._call(request.key)
        if result.status == pb.STATUS_AUTHORISED:
            return result
        if result.status != pb.STATUS_ACTION_REQUIRED:
            raise NotConfirmable(f"call {request.key} does not wait for a confirmation")
        hold = self.load(hold_id)
        result = holds.confirm(hold, at_ms, self._life_ms())
        self.save(hold)
        self._db.execute("UPDATE calls SET result = ? WHERE key = ?", (result.SerializeToString(), request.key))
        self.consequences.record(request, result, hold, at_ms)
        self.announce(request, result, hold, at_ms)
        return result

    def _life_ms(self) -> int:
        return self.hold_life_ms or holds.SEVEN_DAYS_MS

    def _call(self, key: str) -> tuple[str, bytes, pb.CallResult]:
        row = self._db.execute("SELECT hold, fingerprint, result FROM calls WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise NotFound(f"no call {key}")
        return row[0], row[1], pb.CallResult.FromString(row[2])

    def load(self, hold: str) -> Hold:
        """A hold as stored. Raises NotFound."""
        row = self._db.execute("SELECT * FROM holds WHERE hold = ?", (hold,)).fetchone()
        if row is None:
            raise NotFound(f"no hold {hold}")
        return _hold(row)

    def save(self, hold: Hold) -> None:
        """Stores a hold, in the open transaction."""
        self._db.execute(_SAVE_HOLD, _COLUMNS(hold))


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are explicit. The connection is opened in one thread and used in another.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)


def _hold(row: tuple[Any, ...]) -> Hold:
    return Hold(*(*row[:6], bool(row[6]), HoldState(row[7]), *row[8:]))


def fingerprint_of(request: Message) -> bytes:
    """Digest of the operation and the payload, to detect a reused key."""
    payload = request.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\0" + payload).digest()
