"""Makes a failing history small: leaves out whole groups, then acts and faults in ever smaller portions, as long as the
same promise is broken (delta debugging, Zeller and Hildebrandt 2002). Must never change what is left in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.simulation.histories.plan import Plan

#: Whether the plan still fails in the same way.
Fails = Callable[[Plan], bool]


def shrink(plan: Plan, fails: Fails, most: int = 2_000) -> list[int]:
    """Numbers of what a small failing plan keeps; no single one of them can be left out, unless `most` plays end it."""
    plays = 0

    def still(kept: Sequence[int]) -> bool:
        nonlocal plays
        plays += 1
        return plays <= most and fails(plan.keeping(frozenset(kept)))

    kept = list(range(len(plan)))
    for group in plan.groups:
        fewer = [one for one in plan.of_groups({other.group for other in plan.groups} - {group.group}) if one in kept]
        if len(fewer) < len(kept) and still(fewer):
            kept = fewer
    portions = 2
    while len(kept) > 1:
        size = max(len(kept) // portions, 1)
        for start in range(0, len(kept), size):
            fewer = kept[:start] + kept[start + size :]
            if still(fewer):
                kept = fewer
                portions = max(portions - 1, 2)
                break
        else:
            if size == 1:
                break
            portions = min(portions * 2, len(kept))
    return kept


def spell(kept: Sequence[int]) -> str:
    """Numbers as ranges, for a command line: 0-3,7."""
    ranges: list[list[int]] = []
    for number in sorted(kept):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def read(spelt: str) -> frozenset[int]:
    """The numbers of such ranges. Raises ValueError."""
    kept: set[int] = set()
    for one in spelt.split(","):
        first, _, last = one.partition("-")
        kept.update(range(int(first), int(last or first) + 1))
    return frozenset(kept)
