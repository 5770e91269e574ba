"""Golden logs: inboxes and what was decided on them, kept as they were written, one file a version of the rules.

A file is gzipped JSON lines: `{"seed": …}`, then records `[topic, partition, offset, time_ms, key, value in base64]` in
the order of each log. Only the recorders in this folder write files, and they refuse to overwrite one.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.simulation.world.broker import Record

FOLDER = Path(__file__).parent
Logs = dict[tuple[str, int], list[Record]]


def files() -> list[Path]:
    """The golden files of groups and payments, one for each version of the rules of either."""
    return sorted(FOLDER.glob("rules-*.jsonl.gz")) + sorted(FOLDER.glob("payments-rules-*.jsonl.gz"))


def kinds_of_events(logs: Logs, decisions: Mapping[str, Any]) -> set[str]:
    """Kinds of events in a history, `GroupEvent.seat_reserved`. `decisions`: the message of each decision log."""
    return {
        f"{type(event).DESCRIPTOR.name}.{event.WhichOneof('body')}"
        for (topic, _), records in logs.items()
        if topic in decisions
        for record in records
        for event in decisions[topic].FromString(record.value or b"").events
    }


def cover(
    wanted: set[str], events: Callable[[Logs], set[str]], logs_of: Callable[[int], Logs], max_seeds: int
) -> list[tuple[int, Logs]]:
    """Histories of the first seeds that have every wanted event between them. Exits if the seeds do not suffice."""
    kept: list[tuple[int, Logs]] = []
    missing = wanted
    for seed in range(max_seeds):
        logs = logs_of(seed)
        if fresh := events(logs) & missing:
            missing = missing - fresh
            kept.append((seed, logs))
        if not missing:
            return kept
    raise SystemExit(f"{max_seeds} seeds, and still no {sorted(missing)}")


def write(path: Path, record: Callable[[], Iterable[tuple[int, Logs]]]) -> None:
    """Records histories into a new file. Exits where there is one."""
    if path.exists():
        raise SystemExit(f"{path.name} is there: golden logs are never written anew")
    lines = []
    for seed, logs in record():
        lines.append(json.dumps({"seed": seed}))
        for one in (one for name in sorted(logs) for one in logs[name]):
            key, value = (one.key or b"").decode(), base64.b64encode(one.value or b"").decode()
            lines.append(json.dumps([one.topic, one.partition, one.offset, one.timestamp, key, value]))
    with path.open("xb") as out:
        out.write(gzip.compress("\n".join(lines).encode(), mtime=0))
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def read(path: Path) -> list[Logs]:
    """The logs of each history in a file."""
    found: list[Logs] = []
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        entry = json.loads(line)
        if isinstance(entry, dict):
            found.append({})
            continue
        topic, partition, offset, time_ms, key, value = entry
        record = Record(topic, partition, offset, time_ms, key.encode(), base64.b64decode(value), ())
        found[-1].setdefault((topic, partition), []).append(record)
    return found
