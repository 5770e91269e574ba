"""Inbox records of many groups, as the sequencer writes them: groups open, fill, complete and settle side by side.

Deterministic by seed. The story of one group is in bench/evening.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from bench.evening import group_inputs

#: Groups in progress at the same time.
SIDE_BY_SIDE = 2_000


def inputs(count: int, *, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Yields `count` inputs of many groups, interleaved."""
    chance = random.Random(seed)
    live: list[Iterator[tuple[str, bytes]]] = []
    opened = 0
    while count > 0:
        while len(live) < SIDE_BY_SIDE:
            live.append(group_inputs(opened))
            opened += 1
        at = chance.randrange(len(live))
        found = next(live[at], None)
        if found is None:
            live[at] = live[-1]
            live.pop()
            continue
        yield found
        count -= 1
