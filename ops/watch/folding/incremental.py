"""The audit's rules, applied to records as they arrive, with the state on disk.

A *round* reads up to ends that were read effects before causes (TOPICS), so all logs are compared at one consistent
cut. Within a round a log may be ahead of another: violations between logs that appear there are suspects, and count
when the round ends. Violations that single records show count at once.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256

from eventlog.records.log_position import SourcePosition
from eventlog.records.packed import Packed
from eventlog.state.database import Database, Position
from ops.audit.cases import Case
from ops.audit.findings import Findings, Violation
from ops.audit.fold import LogFold, Place, Record
from ops.watch.folding.case_store import MAX_CHANGED, MAX_RECENT, CaseStore
from ops.watch.folding.piece_store import PieceStore
from ops.watch.folding.summary import OpenItem, Pieces, Summary, summarise
from ops.watch.folding.totals import Totals

log = logging.getLogger(__name__)

#: Records between two checks of the number of changed cases.
_SLICE = 500
#: Log lines about new violations that a round writes at most.
_MAX_LOGGED = 20

_TOTALS: Packed[Totals] = Packed(Totals)


class IncrementalAudit:
    """Folds records, and knows at the end of each round which invariants hold."""

    def __init__(
        self,
        database: Database,
        partitions: int | None = None,
        skipped: Collection[Place] = frozenset(),
        *,
        max_changed: int = MAX_CHANGED,
        max_recent: int = MAX_RECENT,
    ) -> None:
        """Continues where the database ends. `partitions` and `skipped`: see LogFold."""
        self._database = database
        self._max_changed = max_changed
        self._findings = Findings()
        self.cases = CaseStore(database, self._findings, max_recent)
        self._pieces = PieceStore(database, self._findings)
        self._fold = LogFold(self.cases.to_change, self._findings, partitions, skipped, pieces=self._pieces)
        stored = self.cases.totals()
        self.totals = _TOTALS.decode(stored) if stored is not None else Totals()
        self._fold.trimmed.update(_places(self.totals.trimmed))
        #: Violations between logs as of the last consistent cut, by group.
        self._across = self.cases.violations()
        # The process may have ended within a round.
        self._suspects = self.cases.suspects()
        self._sources = dict(database.position.sources)
        #: The last record of each log since the last write.
        self._last: dict[str, Record] = {}

    def positions(self) -> dict[tuple[str, int], int]:
        """The next offset by topic and partition."""
        return {place: self._sources[name].next_offset for name, place in _named(self._sources).items()}

    def begins_at(self, topic: str, partition: int, offset: int) -> int:
        """Sets the first offset of a log. Returns where to read on.

        A log that has lost records that were not read counts as trimmed.
        """
        source = self._sources.get(f"{topic}/{partition}")
        at = source.next_offset if source is not None else 0
        if offset > at:
            self._fold.begins_at(topic, partition, offset)
        return max(offset, at)

    def take(self, topic: str, records: Sequence[Record]) -> None:
        """Takes records of one partition, in order."""
        if not records:
            return
        name = f"{topic}/{records[0].partition}"
        for begin in range(0, len(records), _SLICE):
            some = records[begin : begin + _SLICE]
            self._fold.take(topic, some)
            self._last[name] = some[-1]
            if self.cases.changed + self._pieces.changed >= self._max_changed:
                self._write(consistent=False)

    def end_round(self) -> None:
        """Evaluates the groups that changed, and writes everything."""
        if self._last or self._suspects:
            self._write(consistent=True)

    def skip(self, skipped: Collection[Place]) -> None:
        """Forgets records that can't be decoded and that an operator has skipped."""
        places = set(skipped)
        self.totals.unreadable = [one for one in self.totals.unreadable if one[0] not in places]

    @property
    def across(self) -> list[Violation]:
        """Violations between the logs as of the last round, in the order of their groups."""
        return [one for key in sorted(self._across) for one in self._across[key]]

    def open_items(self) -> Iterator[tuple[str, OpenItem]]:
        """Group and item of all open work as of the last round."""
        return self.cases.open_items()

    def _write(self, *, consistent: bool) -> None:
        batch = self._database.batch()
        changed: dict[str, list[Violation]] = {}
        scope = self._fold.scope(settled=False)

        def evaluate(case: Case, before: Summary) -> Summary:
            summary, violations = summarise(case, scope)
            self.totals.add(before, -1)
            self.totals.add(summary)
            if violations or case.key in self._across:
                changed[case.key] = violations
            return summary

        self.cases.write_changed(batch, evaluate)
        for stock, books in self._pieces.write_changed(batch):
            pieces = self.totals.pieces.setdefault(stock, Pieces())
            pieces.total, pieces.leased, pieces.sold = books.total, books.leased, books.sold
            pieces.at_ms = max(pieces.at_ms, books.time_ms)
        if consistent:
            self.cases.evaluate_again(batch, sorted(self._suspects - changed.keys()), evaluate)
            self.cases.delete_suspects(batch, self._suspects)
            self._suspects.clear()
            for key in sorted(changed):
                self._set_across(key, changed[key])
                self.cases.put_violations(batch, key, changed[key])
        else:
            # Written, so that a process that starts within the round evaluates them, too.
            self.cases.put_suspects(batch, changed.keys() - self._suspects)
            self._suspects.update(changed)
        self._drain_findings()
        self._set_counts()
        self.cases.put_totals(batch, _TOTALS.encode(self.totals))
        self._database.write(batch, Position(self._advance()))

    def _set_across(self, key: str, violations: list[Violation]) -> None:
        known = self._across.pop(key, [])
        for one in known:
            self.totals.across[one.invariant] -= 1
        for one in violations:
            self.totals.across[one.invariant] = self.totals.across.get(one.invariant, 0) + 1
            if one not in known:
                self.totals.note(one)
        if violations:
            self._across[key] = violations
            self._log([one for one in violations if one not in known])

    def _drain_findings(self) -> None:
        found = self._findings
        for violation in found.violations:
            self.totals.note(violation)
        for invariant, count in found.by_invariant.items():
            self.totals.by_invariant[invariant] = self.totals.by_invariant.get(invariant, 0) + count
        self._log(found.violations)
        for place, violation in self._fold.unreadable.items():
            self.totals.unreadable.append((place, violation))
            self.totals.note(violation)
        self._log(list(self._fold.unreadable.values()))
        self._fold.unreadable.clear()
        for alarm in found.alarms[:_MAX_LOGGED]:
            log.warning("alarm: %s", alarm)
        self.totals.alarms += len(found.alarms)
        found.violations.clear()
        found.by_invariant.clear()
        found.alarms.clear()

    @staticmethod
    def _log(violations: Sequence[Violation]) -> None:
        for one in violations[:_MAX_LOGGED]:
            log.error("the log violates %s", one)

    def _set_counts(self) -> None:
        fold, totals = self._fold, self.totals
        totals.records += fold.records
        totals.duplicates += fold.duplicates
        totals.dead_letters += fold.dead_letters
        fold.records = fold.duplicates = fold.dead_letters = 0
        totals.trimmed = sorted(f"{topic}/{partition}" for topic, partition in fold.trimmed)

    def _advance(self) -> Mapping[str, SourcePosition]:
        for name, record in self._last.items():
            self._sources[name] = SourcePosition(record.offset + 1, sha256(record.value or b"").digest())
        self._last.clear()
        return dict(self._sources)


def _places(names: Collection[str]) -> set[tuple[str, int]]:
    return set(_named(names).values())


def _named(names: Collection[str]) -> dict[str, tuple[str, int]]:
    """`topic/partition` -> (topic, partition)."""
    found = {}
    for name in names:
        topic, _, partition = name.rpartition("/")
        found[name] = topic, int(partition)
    return found
