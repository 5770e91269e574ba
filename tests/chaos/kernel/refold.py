"""Checks a decision log against its inbox with a fold written apart from the kernel and from the counting domain.

Must not import either: that is what makes it a check.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
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
class Expected:
    total: int = 0
    opened: int = 0
    over: bool = False
    ids: set[str] = field(default_factory=set)
    version: int = 0
    time_ms: int = 0
    sha256: str = ""


def expected(inbox: list[Any], *, split: bool = False) -> dict[tuple[str, int], bytes]:
    """Decisions that an inbox partition leads to, by key and version; `split`: with one event each."""
    states: dict[str, Expected] = {}
    decisions: dict[tuple[str, int], bytes] = {}
    for record in inbox:
        key = record.key.decode()
        state = states.setdefault(key, Expected())
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


def compare(inbox: list[list[Any]], log: list[list[Any]], *, split: bool = False) -> dict[str, int]:
    """Counts what is missing, extra, conflicting, out of order, and the repeats that are byte for byte the same.

    The same in value and headers: a reader may look at either.
    """
    found: Counter[str] = Counter(dict.fromkeys(("missing", "extra", "wrong", "conflicting", "out_of_order"), 0))
    for source, written in zip(inbox, log, strict=True):
        want = expected(source, split=split)
        seen: dict[tuple[str, int], tuple[bytes, Any]] = {}
        last: Counter[str] = Counter()
        for record in written:
            key, version = json.loads(record.value)[:2]
            whole = (record.value, record.headers)
            if (key, version) in seen:
                found["repeats" if seen[key, version] == whole else "conflicting"] += 1
                continue
            seen[key, version] = whole
            found["out_of_order"] += version != last[key] + 1
            last[key] = max(last[key], version)
        found["facts"] += len(source)
        found["decisions"] += len(seen)
        found["missing"] += len(want.keys() - seen.keys())
        found["extra"] += len(seen.keys() - want.keys())
        found["wrong"] += sum(1 for name in want.keys() & seen.keys() if want[name] != seen[name][0])
    return dict(found)
