"""The ownership of a partition on disk, within one epoch of its consumer group."""

from __future__ import annotations

from abc import abstractmethod

from faust.types import TP


class Ownership:
    """The ownership of a partition on disk: in which epoch it is ours, and when it may be read."""

    positions: dict[str, int]

    def __init__(self) -> None:
        self.epoch = -1
        #: Offset that each topic must reach before reads are answered; empty until it is known.
        self.target: dict[str, int] = {}
        #: Committed offset at the start of the epoch, by topic. Dead letters from there on are not sent yet.
        self.committed: dict[str, int] = {}
        self._caught_up = False

    def enter(self, epoch: int) -> None:
        """Marks the partition as ours in this epoch; reads wait for new targets."""
        if self.epoch != epoch:
            self.epoch = epoch
            self.target, self.committed = {}, {}
            self._caught_up = False

    @property
    def caught_up(self) -> bool:
        """Whether the partition has reached its targets once in this epoch. Every read checks this."""
        if not self._caught_up and self.target:
            self._caught_up = all(self.positions.get(topic, 0) >= end for topic, end in self.target.items())
        return self._caught_up

    @abstractmethod
    def starts_at(self, tp: TP, begin: int, end: int) -> int:
        """The offset to read a topic from, in a log from `begin` to `end`. Ends the process if records are missing."""
