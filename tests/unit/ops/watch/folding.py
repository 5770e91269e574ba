"""Helpers: folds recorded logs with watch's incremental audit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eventlog.state.database import Database
from ops.audit.auditor import Auditor
from ops.watch.folding.case_codec import STAMP
from ops.watch.folding.incremental import IncrementalAudit
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG

#: Topic and record, in the order of time: causes before effects.
Timeline = list[tuple[str, Any]]

#: Topics, causes first.
CAUSAL = (ORDERS.name, GROUP_LOG.name, PAYMENT_INBOX.name, PAYMENT_LOG.name)


def open_audit(directory: Path, **limits: Any) -> IncrementalAudit:
    return IncrementalAudit(Database(directory / "watch", STAMP), **limits)


def timeline(topics: Mapping[str, Sequence[Any]]) -> Timeline:
    """The records of all topics in the order of their times; each partition of a topic in the order of its log."""
    merged: list[tuple[int, int, int, str, Any]] = []
    for rank, topic in enumerate(CAUSAL):
        latest: dict[int, int] = {}
        for number, record in enumerate(topics.get(topic, ())):
            # The broker's clock may go back.
            at_ms = latest[record.partition] = max(latest.get(record.partition, 0), record.timestamp)
            merged.append((at_ms, rank, number, topic, record))
    return [(topic, record) for *_, topic, record in sorted(merged, key=lambda one: one[:3])]


def runs(records: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Records of one topic and partition that follow each other."""
    run: list[Any] = []
    where: tuple[str, int] | None = None
    for topic, record in records:
        if where != (topic, record.partition):
            if where is not None:
                yield where[0], run
            run, where = [], (topic, record.partition)
        run.append(record)
    if where is not None:
        yield where[0], run


def fold(audit: IncrementalAudit | Auditor, records: Iterable[tuple[str, Any]]) -> None:
    for topic, run in runs(records):
        audit.take(topic, run)
