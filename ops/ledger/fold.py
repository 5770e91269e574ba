"""Folds the ledger from the payment log by the posting rules of the payments service. Needs no running service."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from services.payments.ledger.journal import Entry, Fault, InMemoryGroups, Journal

#: Called with the entries of one decision.
Take = Callable[[list[Entry]], None]
#: Called with fault, group, version, partition, offset and description.
OnFault = Callable[[Fault, str, int, int, int, str], None]


class Ledger:
    """The ledger of all partitions. Continues after a fault, so that all faults are found."""

    def __init__(self, take: Take, on_fault: OnFault) -> None:
        self._take = take
        self._on_fault = on_fault
        self.folds: dict[int, Journal] = {}
        self._trimmed: set[int] = set()

    def begins_at(self, partition: int, offset: int) -> None:
        """Sets the first offset of a partition. It is greater than 0 if the log was trimmed."""
        if offset > 0:
            self._trimmed.add(partition)
        self._fold(partition)

    def take(self, records: Iterable[Any]) -> None:
        """Books the records of one partition, in order."""
        for record in records:
            entries = self._fold(record.partition).book(record.offset, record.key, record.value or b"")
            if entries:
                self._take(entries)

    def _fold(self, partition: int) -> Journal:
        fold = self.folds.get(partition)
        if fold is None:

            def report(fault: Fault, group: str, version: int, offset: int, what: str) -> None:
                self._on_fault(fault, group, version, partition, offset, what)

            trimmed = partition in self._trimmed
            fold = self.folds[partition] = Journal(partition, InMemoryGroups(), report, trimmed=trimmed)
        return fold
