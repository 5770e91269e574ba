"""Checks a decision log against its inbox with a fold of its own. Imports neither the kernel nor the counting domain.

A decision that is not in the log is *missing*, so lost, if the offset of its input was committed: no worker will read
that input again. Otherwise it is *undecided*, and the next owner decides it; a tick that is appended while the workers
stop is such an input. To tell them apart, read the committed offsets first, then the log, then the inbox.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition


async def read(kafka: str, topic: str, partitions: int) -> list[list[Any]]:
    """All records of a topic, partition by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        tps = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        await consumer.seek_to_beginning(*tps)
        found: list[list[Any]] = [[] for _ in tps]
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for tp, records in (await consumer.getmany(timeout_ms=500, max_records=20_000)).items():
                found[tp.partition] += [record for record in records if record.offset < ends[tp]]
        return found
    finally:
        await consumer.stop()


@dataclass
class CounterState:
    """State of one counter."""

    total: int = 0
    opened: int = 0
    over: bool = False
    ids: set[str] = field(default_factory=set)
    version: int = 0
    time_ms: int = 0
    sha256: str = ""


def expected(inbox: list[Any], *, split: bool = False) -> dict[tuple[str, int], bytes]:
    """The decisions on an inbox partition, by key and version; `split`: with one event each."""
    states: dict[str, CounterState] = {}
    decisions: dict[tuple[str, int], bytes] = {}
    for record in inbox:
        key = record.key.decode()
        state = states.setdefault(key, CounterState())
        command = json.loads(record.value)
        now = max(record.timestamp, state.time_ms)
        events: list[dict[str, Any]] = []
        if state.version and not state.over and now >= state.opened + 1_000:
            events.append({"lapsed": state.opened + 1_000})
            state.over = True
        if "add" in command and not state.over and command["id"] not in state.ids:
            events.append({"added": command["add"], "id": command["id"]})
            state.ids.add(command["id"])
            state.total += command["add"]
            if state.total >= 10:
                events.append({"full": state.total})
                state.over = True
        if not events:
            continue
        if not state.version:
            state.opened = now
        for sealed in [[event] for event in events] if split else [events]:
            state.version += 1
            decision = [key, state.version, record.offset, now, state.sha256, sealed]
            value = json.dumps(decision, sort_keys=True).encode()
            state.sha256 = hashlib.sha256(value).hexdigest()
            decisions[key, state.version] = value
        state.time_ms = now
    return decisions


@dataclass
class PartitionReport:
    """Positions of a partition, and its decisions that are not in the log."""

    partition: int
    #: Offsets in the inbox: after the input of the last decision, the committed one, and that of the next record.
    position: int
    committed: int
    next_offset: int
    #: End of the decision log.
    log_end: int
    missing: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = (
            f"partition {self.partition}: inbox position {self.position}, committed {self.committed}, "
            f"next offset {self.next_offset}; log end {self.log_end}"
        )
        for title, decisions in (("LOST", self.missing), ("NOT YET COMMITTED", self.undecided)):
            if decisions:
                text += f"; {len(decisions)} {title}: {', '.join(decisions[:5])}"
        return text


@dataclass
class Verdict:
    """The result of a comparison."""

    counts: dict[str, int]
    partitions: list[PartitionReport]

    def __str__(self) -> str:
        return "\n".join([str(self.counts), *map(str, self.partitions)])


def compare(
    inbox: list[list[Any]], log: list[list[Any]], committed: Mapping[int, int], *, split: bool = False
) -> Verdict:
    """Counts decisions that are missing, undecided, extra, wrong, conflicting or out of order, and identical repeats.

    A repeat is identical if value and headers are. `committed` is the group's offset in the inbox, by partition.
    """
    names = ("missing", "undecided", "extra", "wrong", "conflicting", "out_of_order")
    found: Counter[str] = Counter(dict.fromkeys(names, 0))
    partitions = []
    for partition, (source, written) in enumerate(zip(inbox, log, strict=True)):
        want = expected(source, split=split)
        seen: dict[tuple[str, int], tuple[bytes, Any]] = {}
        last: Counter[str] = Counter()
        report = PartitionReport(partition, 0, committed.get(partition, 0), _end(source), _end(written))
        for record in written:
            key, version, cause = json.loads(record.value)[:3]
            report.position = max(report.position, cause + 1)
            content = (record.value, record.headers)
            if (key, version) in seen:
                found["repeats" if seen[key, version] == content else "conflicting"] += 1
                continue
            seen[key, version] = content
            found["out_of_order"] += version != last[key] + 1
            last[key] = max(last[key], version)
        for name in want.keys() - seen.keys():
            cause = json.loads(want[name])[2]
            absent = report.missing if cause < report.committed else report.undecided
            absent.append(f"{name[0]} version {name[1]} of inbox offset {cause}")
        found["facts"] += len(source)
        found["decisions"] += len(seen)
        found["missing"] += len(report.missing)
        found["undecided"] += len(report.undecided)
        found["extra"] += len(seen.keys() - want.keys())
        found["wrong"] += sum(1 for name in want.keys() & seen.keys() if want[name] != seen[name][0])
        partitions.append(report)
    return Verdict(dict(found), partitions)


def _end(records: list[Any]) -> int:
    return records[-1].offset + 1 if records else 0
