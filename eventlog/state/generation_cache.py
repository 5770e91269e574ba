"""The most recently used objects of a store, in two generations.

An object that was not used for a whole generation is evicted. This costs less than a list in the order of use.
"""

from __future__ import annotations

from typing import Generic, TypeVar

V = TypeVar("V")


class GenerationCache(Generic[V]):
    """Objects by key, about `capacity` of them."""

    __slots__ = ("_half", "old", "young")

    def __init__(self, capacity: int) -> None:
        self._half = max(capacity // 2, 1)
        #: Read directly where a method call per record would cost too much.
        self.young: dict[str, V] = {}
        self.old: dict[str, V] = {}

    def use(self, key: str, value: V) -> None:
        """Adds an object, or moves it to the young generation."""
        if len(self.young) >= self._half and key not in self.young:
            self.old, self.young = self.young, {}
        self.young[key] = value

    def __len__(self) -> int:
        return len(self.young) + len(self.old)
