"""Writes the logs of some partitions to memory, folds them as a worker of `watch` does, and prints figures.

`python -m bench.watch.fold '{"groups": n, "partitions": [0, 2], "directory": …}'`
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

from bench.reads.history import PARTITIONS, Lane, New, Stored, chunks
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime import interpreter
from eventlog.state.database import Database
from ops.watch.folding.case_codec import STAMP
from ops.watch.folding.incremental import IncrementalAudit
from shared_kernel.topics import GROUP_INBOX

_START_MS = 1_700_000_000_000


class Record(NamedTuple):
    """A record as the audit reads it."""

    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class MemoryLane(Lane):
    """A lane whose log is a list."""

    def __init__(self, partition: int) -> None:
        super().__init__(producer=None, partition=partition)
        self.log: list[tuple[str, list[Record]]] = []
        self._ends: dict[str, int] = {}
        self._now_ms = _START_MS

    async def append(self, topic: TopicSpec, records: Sequence[New]) -> list[Stored]:
        """Appends records; returns them as they are in the log."""
        first = self._ends.get(topic.name, 0)
        self._now_ms += 10
        found = [Stored(first + n, self._now_ms, *one) for n, one in enumerate(records)]
        self._ends[topic.name] = first + len(found)
        if topic is not GROUP_INBOX and found:
            # No check of the audit reads the inbox of the groups.
            self.log.append((topic.name, [Record(self.partition, *one) for one in found]))
            self.records += len(found)
        return found


def measure(groups: int, partitions: Sequence[int], directory: str) -> dict[str, float]:
    """Folds the logs of some partitions; returns figures."""
    lanes = [MemoryLane(partition) for partition in partitions]
    for lane in lanes:
        for indexes in chunks(groups, lane.partition):
            asyncio.run(lane.play(indexes))
    audit = IncrementalAudit(Database(Path(directory) / str(partitions[0]), STAMP), PARTITIONS)
    interpreter.tune()
    before_mb = _peak_mb()
    began, cpu = perf_counter(), process_time()
    peak = 0
    for lane in lanes:
        for topic, records in lane.log:
            audit.take(topic, records)
            peak = max(peak, audit.cases.in_memory)
    audit.end_round()
    seconds = perf_counter() - began
    return {
        "records": audit.totals.records,
        "seconds": seconds,
        "cpu_s": process_time() - cpu,
        "violations": sum(audit.totals.violations.values()),
        "settled": audit.totals.groups.get("settled", 0),
        "cases_in_memory": peak,
        "grown_mb": _peak_mb() - before_mb,
        "disk_mb": sum(file.stat().st_size for file in Path(directory).rglob("*") if file.is_file()) / 1e6,
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
