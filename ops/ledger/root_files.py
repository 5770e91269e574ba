"""Merkle roots of the ledger, one per day and partition: written to a file, and compared with the log later.

The root proves the history. The first bytes of each decision's digest are in the file too, to name changed decisions.
Kept out of reach of the broker's administrators, the file shows whether anybody rewrote the log.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.audit.findings import Findings, Invariant
from ops.errors import CANNOT_RUN, OpsError
from ops.ledger.fold import Ledger
from services.payments.ledger.journal import Entry, Fault
from shared_kernel.topics import PAYMENT_LOG

FORMAT = 1
#: Bytes of a decision's digest that the file keeps.
MARK_BYTES = 6
MAX_NAMED = 50


@dataclass(slots=True)
class Day:
    """The entries of one partition on one day."""

    entries: int = 0
    root: str = ""
    #: Hash of the last entry, which includes all entries before it.
    hash: str = ""
    #: First bytes of each decision's digest, by offset.
    marks: dict[int, str] = field(default_factory=dict)


#: By partition and day, `2026-01-31`.
Roots = dict[tuple[int, str], Day]


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """A decision in the current log."""

    group: str
    version: int
    mark: str

    def __str__(self) -> str:
        return f"group {self.group} version {self.version}"


class RootCollector:
    """Collects the roots while the ledger is folded. With `until`, each day ends where it ends in that file."""

    def __init__(self, until: Roots | None = None) -> None:
        self._until = until
        self.roots: Roots = {}
        self.decided: dict[tuple[int, int], LoggedDecision] = {}
        self.faults: list[tuple[Fault, str, int, int, int, str]] = []
        self.ledger = Ledger(self.take, self.add_fault)
        #: The day of each partition's last entry.
        self._day: dict[int, str] = {}

    def add_fault(self, fault: Fault, group: str, version: int, partition: int, offset: int, what: str) -> None:
        """Records a fault of the log."""
        self.faults.append((fault, group, version, partition, offset, what))

    def take(self, entries: list[Entry]) -> None:
        """Takes the entries of one decision."""
        first = entries[0]
        fold = self.ledger.folds[first.partition]
        name = (first.partition, day_name(fold.day))
        day = self.roots.setdefault(name, Day())
        wanted = self._until.get(name) if self._until is not None else None
        self.decided[first.partition, first.offset] = LoggedDecision(
            first.group, first.version, first.decision_sha256[:MARK_BYTES].hex()
        )
        if wanted is not None and day.entries >= wanted.entries:
            return
        day.marks[first.offset] = first.decision_sha256[:MARK_BYTES].hex()
        day.entries = fold.days[fold.day].size
        day.hash = entries[-1].hash.hex()
        if wanted is None or day.entries >= wanted.entries:
            # The root of a compared day is that at the file's last entry. Other roots are set by `finish`.
            day.root = fold.days[fold.day].root().hex() if wanted is not None else ""

    def finish(self) -> Roots:
        """All roots, after the last record."""
        for (partition, name), day in self.roots.items():
            if not day.root:
                trees = {day_name(number): tree for number, tree in self.ledger.folds[partition].days.items()}
                day.root = trees[name].root().hex()
        return self.roots


def day_name(day: int) -> str:
    """`2026-01-31` from the number of days since the epoch."""
    return datetime.fromtimestamp(day * 86_400, UTC).date().isoformat()


# The file -----------------------------------------------------------------------------------------------------------


def write(path: Path, roots: Roots) -> None:
    """Writes a file of roots atomically."""
    rows = [
        {
            "partition": partition,
            "day": name,
            "entries": day.entries,
            "root": day.root,
            "hash": day.hash,
            "decisions": {str(offset): mark for offset, mark in day.marks.items()},
        }
        for (partition, name), day in sorted(roots.items())
    ]
    beside = path.with_name(f".{path.name}.new")
    content = json.dumps({"format": FORMAT, "topic": PAYMENT_LOG.name, "roots": rows}) + "\n"
    try:
        beside.write_text(content, encoding="utf-8")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def read(path: Path) -> Roots:
    """The roots of a file. Raises OpsError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind = content["format"], content["topic"]
        roots = dict(_days(content["roots"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, repr(error)) from error
    if kind != (FORMAT, PAYMENT_LOG.name):
        raise _unreadable(path, f"its format is {kind[0]}, of topic {kind[1]}")
    return roots


def _unreadable(path: Path, why: str) -> OpsError:
    return OpsError(f"{path} is not a valid file of `groupbuy-ops ledger roots`: {why}", CANNOT_RUN)


def _days(rows: list[Mapping[str, Any]]) -> Iterator[tuple[tuple[int, str], Day]]:
    for row in rows:
        marks = {int(offset): str(mark) for offset, mark in row["decisions"].items()}
        yield (int(row["partition"]), str(row["day"])), Day(int(row["entries"]), row["root"], row["hash"], marks)


# Comparing ----------------------------------------------------------------------------------------------------------


def compare(wanted: Roots, collector: RootCollector, findings: Findings) -> None:
    """Reports all differences between a file and the current log as violations of the hash chain.

    `collector` was created with the file's roots and has taken the whole log.
    """
    found = collector.finish()
    broken = {group for fault, group, *_ in collector.faults if fault is Fault.CHAIN}
    for fault, group, version, partition, offset, what in collector.faults[:MAX_NAMED]:
        where = f"partition {partition} offset {offset}"
        findings.breach(Invariant.CHAIN, group, "", f"{where}: {fault.name.lower()} at version {version}: {what}")
    for (partition, name), day in sorted(wanted.items()):
        now = found.get((partition, name), Day())
        if (now.entries, now.root, now.hash) == (day.entries, day.root, day.hash):
            continue
        where = f"{name} partition {partition}"
        findings.breach(
            Invariant.CHAIN,
            "",
            "",
            f"{where}: the root of its first {day.entries} entries differs from the exported one",
        )
        _name_differences(partition, where, day, collector, broken, findings)


def _name_differences(
    partition: int, where: str, day: Day, collector: RootCollector, broken: set[str], findings: Findings
) -> None:
    """Reports the changed decisions: compared by offset first, then by digest at any offset."""
    left = Counter(one.mark for (at, _), one in collector.decided.items() if at == partition)
    changed: dict[str, list[tuple[int, LoggedDecision]]] = {}
    named = 0
    for offset, mark in day.marks.items():
        now = collector.decided.get((partition, offset))
        if now is not None and now.mark == mark:
            continue
        named += 1
        if named > MAX_NAMED:
            continue
        if left[mark]:
            left[mark] -= 1
            findings.breach(Invariant.CHAIN, "", "", f"{where} offset {offset}: the decision has another offset now")
        elif now is not None:
            changed.setdefault(now.group, []).append((offset, now))
        else:
            what = f"{where} offset {offset}: the decision with digest {mark}… was removed"
            findings.breach(Invariant.CHAIN, "", "", what)
    for group, some in changed.items():
        offsets = ", ".join(f"{offset}" for offset, _ in some)
        if len(some) > 1 and group not in broken:
            first = some[0][1]
            what = f"{where} offsets {offsets}: the chain of {first} and after was rewritten, {len(some)} decisions"
            findings.breach(Invariant.CHAIN, group, "", what)
            continue
        for offset, one in some:
            what = f"{where} offset {offset}: the entry of {one} was changed"
            findings.breach(Invariant.CHAIN, group, "", what)
    if named > MAX_NAMED:
        findings.breach(Invariant.CHAIN, "", "", f"{where}: {named - MAX_NAMED} further decisions differ")
