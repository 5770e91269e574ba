"""CPU time of a process's threads from /proc: exact, of all threads, at no cost for the process."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_by_thread(pid: int) -> dict[str, float]:
    """CPU seconds by name of a thread; threads with the same name are added up. Ended threads count as `(ended)`."""
    found: defaultdict[str, float] = defaultdict(float)
    folder = Path(f"/proc/{pid}")
    total = _seconds(folder / "stat")[1]
    for task in (folder / "task").iterdir():
        try:
            name, seconds = _seconds(task / "stat")
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[name] += seconds
    found["(ended)"] = max(total - sum(found.values()), 0.0)
    return dict(found)


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Seconds between two readings, by thread."""
    return {name: max(seconds - before.get(name, 0.0), 0.0) for name, seconds in after.items()}


def _seconds(stat: Path) -> tuple[str, float]:
    head, _, fields = stat.read_text(encoding="utf-8").rpartition(")")
    numbers = fields.split()
    return head.partition("(")[2], (int(numbers[11]) + int(numbers[12])) / _TICKS_PER_S
