"""Inbox records of many groups, as the sequencer writes them: groups open, fill, complete and settle side by side.

Deterministic by seed. The story of one group is in bench/evening.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from groupbuy.groups.v1 import decisions_pb2 as pb

from bench.evening import group_inputs

#: Stock items and customers that routed decisions name.
TARGETS = 1_000
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


def routed_decisions(count: int) -> Iterator[tuple[str, bytes]]:
    """Yields decisions of groups with stock and limits: each concerns a stock item, every second a customer too."""
    for number in range(count):
        events = [pb.GroupEvent(units_requested=pb.UnitsRequested(stock=f"s{number % TARGETS}", at_least=1, at_most=9))]
        if number % 2:
            asked = pb.AdmissionRequested(
                order=f"o{number}", customer=f"c{number % TARGETS}", quantity=1, campaign="mug"
            )
            events.append(pb.GroupEvent(admission_requested=asked))
        group = f"g{number}"
        # Version 1 of its group: the chain of digests begins with it.
        yield (
            group,
            pb.GroupDecision(group=group, version=1, cause=number, time_ms=1, events=events).SerializeToString(),
        )
