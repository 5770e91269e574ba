"""The facts of bench-peers and the fold that is expected of them. Deterministic by seed.

A group gets FACTS_PER_GROUP facts, and SIDE_BY_SIDE groups are in progress at the same time.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid5

PARTITIONS = 4
FACTS_PER_GROUP = 24
SIDE_BY_SIDE = 2_000
_NAMESPACE = UUID("5d0f1f5e-6b1c-4a8e-9d55-2f0a3c1b7e11")


class Facts:
    """Facts, and the totals of their groups, computed here without any stream processor."""

    def __init__(self, count: int, fact: Any, *, seed: int = 1) -> None:
        """`fact` is the message class Fact."""
        self.count = count
        self._fact = fact
        self._seed = seed
        #: Units and amount after each fact of a group: the values of fact n are at 2n and 2n + 1.
        self.expected: dict[bytes, array[int]] = {}

    def records(self) -> Iterator[tuple[str, bytes]]:
        """Yields (group, value of a fact) and records what is expected. Call it once."""
        chance = random.Random(self._seed)
        live: list[str] = []
        opened = 0
        for _ in range(self.count):
            while len(live) < SIDE_BY_SIDE:
                group = str(uuid5(_NAMESPACE, str(opened)))
                opened += 1
                live.append(group)
                self.expected[group.encode()] = array("q")
            at = int(chance.random() * len(live))
            group = live[at]
            totals = self.expected[group.encode()]
            number = len(totals) // 2
            units, amount = 1 + int(chance.random() * 9), int(chance.random() * 100_000)
            before = (totals[-2], totals[-1]) if number else (0, 0)
            totals.extend((before[0] + units, before[1] + amount))
            if number + 1 == FACTS_PER_GROUP:
                live[at] = live[-1]
                live.pop()
            order = f"{group[:-3]}{number:03}"
            yield group, self._fact(order=order, units=units, amount_minor=amount).SerializeToString()
