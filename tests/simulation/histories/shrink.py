"""Shrinks a failing history: removes whole groups, then acts and faults in smaller and smaller chunks, while the same
guarantee is violated (delta debugging, Zeller and Hildebrandt 2002). The remaining acts and faults do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.simulation.histories.plan import Plan

#: Whether a plan still violates the same guarantee.
Fails = Callable[[Plan], bool]


def shrink(plan: Plan, fails: Fails, most: int = 2_000) -> list[int]:
    """Numbers that a small failing plan keeps. None of them can be removed, unless `most` runs ended the search."""
    runs = 0

    def still_fails(kept: Sequence[int]) -> bool:
        nonlocal runs
        runs += 1
        return runs <= most and fails(plan.keeping(frozenset(kept)))

    kept = list(range(len(plan)))
    for group in plan.groups:
        fewer = [one for one in plan.of_groups({other.group for other in plan.groups} - {group.group}) if one in kept]
        if len(fewer) < len(kept) and still_fails(fewer):
            kept = fewer
    chunks = 2
    while len(kept) > 1:
        size = max(len(kept) // chunks, 1)
        for start in range(0, len(kept), size):
            fewer = kept[:start] + kept[start + size :]
            if still_fails(fewer):
                kept = fewer
                chunks = max(chunks - 1, 2)
                break
        else:
            if size == 1:
                break
            chunks = min(chunks * 2, len(kept))
    return kept


def spell(kept: Sequence[int]) -> str:
    """Formats numbers as ranges for a command line: 0-3,7."""
    ranges: list[list[int]] = []
    for number in sorted(kept):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def read(spelt: str) -> frozenset[int]:
    """Parses such ranges. Raises ValueError."""
    kept: set[int] = set()
    for one in spelt.split(","):
        first, _, last = one.partition("-")
        kept.update(range(int(first), int(last or first) + 1))
    return frozenset(kept)
