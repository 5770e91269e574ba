"""Checks a decision log against its inbox with a fold written apart from the kernel and from the counting domain.

It imports neither: otherwise it would be no check.

A decision that is not in the log is *missing*, and so lost, if the offset of its input was committed: nobody will read
that input again. Otherwise it is *undecided*: the next owner decides it. A tick that is appended while the workers stop
is such an input. To tell them apart, read the committed offsets first, then the log, then the inbox.
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


@dataclass
class Place:
    """Where a partition stands, and which of its decisions are not in the log."""

    partition: int
    #: Of the inbox: after the input of the last decision, where the group goes on, and where the next record will be.
    position: int
    committed: int
    next_offset: int
    #: Of the decision log.
    log_end: int
    missing: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = (
            f"partition {self.partition}: inbox position {self.position}, committed {self.committed}, "
            f"next offset {self.next_offset}; log end {self.log_end}"
        )
        for title, decisions in (("LOST", self.missing), ("NOT YET COMMITTED", self.undecided)):
            if decisions:
                said += f"; {len(decisions)} {title}: {', '.join(decisions[:5])}"
        return said


@dataclass
class Verdict:
    """What a comparison found."""

    counts: dict[str, int]
    places: list[Place]

    def __str__(self) -> str:
        return "\n".join([str(self.counts), *map(str, self.places)])


def compare(
    inbox: list[list[Any]], log: list[list[Any]], committed: Mapping[int, int], *, split: bool = False
) -> Verdict:
    """Counts what is missing, undecided, extra, conflicting, out of order, and the repeats that are byte for byte the
    same. `committed` is the group's offset in the inbox by partition.

    The same in value and headers: a reader may look at either.
    """
    names = ("missing", "undecided", "extra", "wrong", "conflicting", "out_of_order")
    found: Counter[str] = Counter(dict.fromkeys(names, 0))
    places = []
    for partition, (source, written) in enumerate(zip(inbox, log, strict=True)):
        want = expected(source, split=split)
        seen: dict[tuple[str, int], tuple[bytes, Any]] = {}
        last: Counter[str] = Counter()
        place = Place(partition, 0, committed.get(partition, 0), _end(source), _end(written))
        for record in written:
            key, version, cause = json.loads(record.value)[:3]
            place.position = max(place.position, cause + 1)
            whole = (record.value, record.headers)
            if (key, version) in seen:
                found["repeats" if seen[key, version] == whole else "conflicting"] += 1
                continue
            seen[key, version] = whole
            found["out_of_order"] += version != last[key] + 1
            last[key] = max(last[key], version)
        for name in want.keys() - seen.keys():
            cause = json.loads(want[name])[2]
            gone = place.missing if cause < place.committed else place.undecided
            gone.append(f"{name[0]} version {name[1]} of inbox offset {cause}")
        found["facts"] += len(source)
        found["decisions"] += len(seen)
        found["missing"] += len(place.missing)
        found["undecided"] += len(place.undecided)
        found["extra"] += len(seen.keys() - want.keys())
        found["wrong"] += sum(1 for name in want.keys() & seen.keys() if want[name] != seen[name][0])
        places.append(place)
    return Verdict(dict(found), places)


def _end(records: list[Any]) -> int:
    return records[-1].offset + 1 if records else 0
