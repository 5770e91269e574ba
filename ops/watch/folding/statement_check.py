"""Compares a provider's statement with the log, group by group, in steps between the rounds of the fold.

Uses the audit's comparison. The entries lie in a database of their own while they are compared, so the memory does not
grow with the statement. A group that has changed since the statement was made is left to the next comparison.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry
from msgspec import Struct, field

from eventlog.core.partitioner import partition_of
from eventlog.state.database import Database, Position
from ops.audit.cases import Case
from ops.audit.findings import Findings
from ops.audit.money.statement import compare
from ops.watch.folding.case_store import CaseStore
from shared_kernel.payment_providers import provider_of

log = logging.getLogger(__name__)

_STAMP = "statement-1"
_ENTRY = b"e"
_BATCH = 1_000
MAX_TEXTS = 20


class Compared(Struct, array_like=True):
    """The result of a comparison."""

    provider: str
    #: When the statement was made, in milliseconds since the epoch.
    at_ms: int
    differences: int = 0
    entries: int = 0
    #: Groups that have changed since.
    left_out: int = 0
    texts: list[str] = field(default_factory=list)


class StatementCheck:
    """One comparison."""

    def __init__(self, cases: CaseStore, scratch: Path, provider: str, at_ms: int) -> None:
        """`scratch` is a directory that is deleted; `at_ms` is the time before which the statement was requested."""
        shutil.rmtree(scratch, ignore_errors=True)
        self._scratch = scratch
        self._entries = Database(scratch, _STAMP)
        self._cases = cases
        self._after: str | None = ""
        self._row: bytes | None = _ENTRY
        self.result = Compared(provider, at_ms)

    async def load(self, entries: AsyncIterator[StatementEntry], partitions: int, mine: Collection[int]) -> None:
        """Stores the entries of the groups in some partitions. Raises OpsError."""
        batch, count = self._entries.batch(), 0
        async for entry in entries:
            if partition_of(entry.group, partitions) in mine:
                batch.put(_ENTRY + f"{entry.group}\0{entry.hold}".encode(), entry.SerializeToString())
                count += 1
                if count % _BATCH == 0:
                    self._entries.write(batch, Position())
                    batch = self._entries.batch()
        self._entries.write(batch, Position())
        self.result.entries = count

    def step(self, limit: int = 256) -> bool:
        """Compares the next groups. Returns whether all are compared. Call it after a round that began after `load`."""
        if self._after is not None:
            cases = self._cases.cases(self._after, limit)
            for case in cases:
                self._compare(case)
            self._after = cases[-1].key if len(cases) == limit else None
            return False
        if self._row is not None:
            self._check_strays(limit)
        if self._row is None:
            self.close()
        return self._row is None

    def close(self) -> None:
        """Deletes the stored entries. Idempotent."""
        self._entries.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _compare(self, case: Case) -> None:
        if case.at_ms >= self.result.at_ms:
            self.result.left_out += 1
            return
        entries = self._entries_of(case.key)
        listed = {entry.hold for entry in entries}
        part = Case(case.key, Findings())
        # The simulated provider's statement also lists the holds of the providers that it plays.
        part.group_payments.payments = {
            order: payment
            for order, payment in case.group_payments.payments.items()
            if provider_of(payment.method) == self.result.provider or not listed.isdisjoint(payment.holds)
        }
        findings = Findings()
        compare([part], entries, False, findings)
        # The statement is older than the case, and nothing is pending: what is in the statement alone is a difference.
        pending = any(payment.pending for payment in case.group_payments.payments.values())
        texts = [str(one) for one in findings.violations] + ([] if pending else findings.pending)
        self._add(texts)

    def _entries_of(self, group: str) -> list[StatementEntry]:
        prefix = _ENTRY + group.encode() + b"\0"
        return [StatementEntry.FromString(value) for _, value in self._entries.scan(prefix)]

    def _check_strays(self, limit: int) -> None:
        """Entries of groups that the log does not have."""
        assert self._row is not None
        rows = self._entries.rows(self._row, _ENTRY, limit)
        for row, value in rows:
            group = row[1:].partition(b"\0")[0].decode()
            entry = StatementEntry.FromString(value)
            if (entry.authorised_minor or entry.captured_minor) and self._cases.get(group) is None:
                amount = f"{entry.authorised_minor} {entry.currency}"
                self._add([f"hold {entry.hold} of {amount} belongs to group {group}, which is not in the log"])
        self._row = rows[-1][0] + b"\0" if len(rows) == limit else None

    def _add(self, texts: list[str]) -> None:
        self.result.differences += len(texts)
        for text in texts[: MAX_TEXTS - len(self.result.texts)]:
            log.error("statement of %s: %s", self.result.provider, text)
            self.result.texts.append(text)
