"""The cases of all groups: changed ones and recently used open ones in memory, all on disk.

The memory is bounded by two numbers, whatever the number of groups: MAX_CHANGED cases that the disk does not have yet,
and MAX_RECENT open cases. A closed group leaves the memory once it is written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

import msgspec
from rocksdict import WriteBatch

from eventlog.records.packed import Packed
from eventlog.state.database import Database
from ops.audit.cases import Case
from ops.audit.findings import Findings, Violation
from ops.watch.folding.case_codec import decode, encode
from ops.watch.folding.summary import OpenItem, Summary

#: Changed cases after which all of them are written.
MAX_CHANGED = 4_000
#: Unchanged open cases that stay in memory.
MAX_RECENT = 8_000

_CASE, _OPEN, _SUSPECT, _TOTALS, _VIOLATED = b"c", b"o", b"s", b"t", b"v"
_ITEMS: Packed[list[OpenItem]] = Packed(list[OpenItem])
_VIOLATIONS: Packed[list[Violation]] = Packed(list[Violation])

Entry = tuple[Case, Summary]
#: Returns the new summary of a case, given the one before.
Evaluate = Callable[[Case, Summary], Summary]


class CaseStore:
    """Cases by key."""

    def __init__(self, database: Database, findings: Findings, recent: int = MAX_RECENT) -> None:
        """Cases that are read report their violations to `findings`."""
        self._database = database
        self._findings = findings
        self._max_recent = recent
        self._changed: dict[str, Entry] = {}
        self._recent: OrderedDict[str, Entry] = OrderedDict()

    @property
    def changed(self) -> int:
        """The number of cases that the disk does not have yet."""
        return len(self._changed)

    @property
    def in_memory(self) -> int:
        """The number of cases in memory."""
        return len(self._changed) + len(self._recent)

    def to_change(self, key: str) -> Case:
        """The case of a group, which the caller changes."""
        entry = self._changed.get(key)
        if entry is None:
            entry = self._changed[key] = self._take(key) or self._new(key)
        return entry[0]

    def get(self, key: str) -> Case | None:
        """The case of a group, or None."""
        entry = self._changed.get(key) or self._recent.get(key) or self._read(key)
        return entry[0] if entry is not None else None

    def _take(self, key: str) -> Entry | None:
        return self._recent.pop(key) if key in self._recent else self._read(key)

    def _new(self, key: str) -> Entry:
        return Case(key, self._findings), Summary()

    def _read(self, key: str) -> Entry | None:
        row = self._database.get(_CASE + key.encode())
        if row is None:
            return None
        try:
            return decode(key, row, self._findings)
        except msgspec.DecodeError as error:
            self._database.abort_damaged(error)

    def write_changed(self, batch: WriteBatch, evaluate: Evaluate) -> None:
        """Evaluates every changed case and adds its rows to a batch. `evaluate` receives the summary before."""
        for key, (case, before) in self._changed.items():
            self._put(batch, key, case, evaluate(case, before), before)
        self._changed.clear()
        while len(self._recent) > self._max_recent:
            self._recent.popitem(last=False)

    def evaluate_again(self, batch: WriteBatch, keys: Iterable[str], evaluate: Evaluate) -> None:
        """Evaluates unchanged cases and adds their rows to a batch."""
        for key in keys:
            entry = self._take(key)
            if entry is not None:
                case, before = entry
                self._put(batch, key, case, evaluate(case, before), before)

    def _put(self, batch: WriteBatch, key: str, case: Case, summary: Summary, before: Summary) -> None:
        name = key.encode()
        batch.put(_CASE + name, encode(case, summary))
        if summary.items:
            batch.put(_OPEN + name, _ITEMS.encode(summary.items))
        elif before.items:
            batch.delete(_OPEN + name)
        if summary.open:
            self._recent[key] = case, summary

    def put_violations(self, batch: WriteBatch, key: str, violations: list[Violation]) -> None:
        """Adds the violations between the logs of a group to a batch; none removes them."""
        if violations:
            batch.put(_VIOLATED + key.encode(), _VIOLATIONS.encode(violations))
        else:
            batch.delete(_VIOLATED + key.encode())

    def violations(self) -> dict[str, list[Violation]]:
        """The violations between the logs, by group."""
        return {row[1:].decode(): _VIOLATIONS.decode(value) for row, value in self._database.scan(_VIOLATED)}

    @staticmethod
    def put_suspects(batch: WriteBatch, keys: Iterable[str]) -> None:
        """Marks groups that have to be evaluated when the round ends."""
        for key in keys:
            batch.put(_SUSPECT + key.encode(), b"")

    @staticmethod
    def delete_suspects(batch: WriteBatch, keys: Iterable[str]) -> None:
        """Removes the marks."""
        for key in keys:
            batch.delete(_SUSPECT + key.encode())

    def suspects(self) -> set[str]:
        """The marked groups."""
        return {row[1:].decode() for row, _ in self._database.scan(_SUSPECT)}

    def open_items(self) -> Iterator[tuple[str, OpenItem]]:
        """Group and item of all open work, as last written."""
        for row, value in self._database.scan(_OPEN):
            key = row[1:].decode()
            for item in _ITEMS.decode(value):
                yield key, item

    def cases(self, after: str = "", limit: int = 256) -> list[Case]:
        """The next cases on disk in the order of their keys."""
        start = _CASE + after.encode() + (b"\0" if after else b"")
        return [
            decode(row[1:].decode(), value, Findings())[0] for row, value in self._database.rows(start, _CASE, limit)
        ]

    def totals(self) -> bytes | None:
        """The stored totals."""
        return self._database.get(_TOTALS)

    @staticmethod
    def put_totals(batch: WriteBatch, totals: bytes) -> None:
        """Adds the totals to a batch."""
        batch.put(_TOTALS, totals)
