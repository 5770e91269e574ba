"""Folds the ledger from the topic of payment decisions, by the rules that the service itself books by.

The topic is the truth and the books are its fold, so this needs no running service. Must never write anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ops.log.reader import Reader
from services.payments.ledger.journal import Entry, Fault, InMemoryGroups, Journal
from shared_kernel.topics import PAYMENT_LOG

#: Called with the entries of one decision.
Take = Callable[[list[Entry]], None]
#: (fault, group, version, partition, offset, in words)
Complain = Callable[[Fault, str, int, int, int, str], None]


class Ledger:
    """Folds of all partitions. Goes on after what is wrong, so that all of it is found."""

    def __init__(self, take: Take, complain: Complain) -> None:
        self._take = take
        self._complain = complain
        self.folds: dict[int, Journal] = {}
        self._trimmed: set[int] = set()

    def begins_at(self, partition: int, offset: int) -> None:
        """Tells where a partition's first record stands; greater than 0 where the log was trimmed."""
        if offset > 0:
            self._trimmed.add(partition)
        self._fold(partition)

    def take(self, records: Iterable[Any]) -> None:
        """Books records of one partition, in order."""
        for record in records:
            entries = self._fold(record.partition).book(record.offset, record.key, record.value or b"")
            if entries:
                self._take(entries)

    def _fold(self, partition: int) -> Journal:
        fold = self.folds.get(partition)
        if fold is None:

            def complain(fault: Fault, group: str, version: int, offset: int, what: str) -> None:
                self._complain(fault, group, version, partition, offset, what)

            trimmed = partition in self._trimmed
            fold = self.folds[partition] = Journal(partition, InMemoryGroups(), complain, trimmed=trimmed)
        return fold


async def folded(kafka: str, take: Take, complain: Complain) -> Ledger:
    """The ledger of a broker up to its end of now."""
    ledger = Ledger(take, complain)
    async with Reader(kafka, [PAYMENT_LOG.name]) as reader:
        for (_topic, partition), offset in (await reader.beginnings()).items():
            ledger.begins_at(partition, offset)
        await reader.read_to_end(lambda _topic, records: ledger.take(records))
    return ledger
