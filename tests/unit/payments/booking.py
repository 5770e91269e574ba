"""PartitionJournal decisions in tests: the log of a scenario, or hand-made decisions, as the log of one partition."""

from __future__ import annotations

from collections.abc import Iterable

from services.payments.ledger.journal import Entry, InMemoryGroups, Journal
from services.payments.ledger.posting_rules import Account
from tests.scenarios.facts import GROUP
from tests.scenarios.payments import PaymentsScenario


class PartitionJournal:
    """The journal of one partition in memory, with its entries."""

    def __init__(self) -> None:
        self.journal = Journal(0, InMemoryGroups())
        self.entries: list[Entry] = []

    def take(self, values: Iterable[bytes], group: str = GROUP) -> PartitionJournal:
        for value in values:
            self.entries += self.journal.book(self.journal.head.next_offset, group.encode(), value)
        return self

    def balances(self, currency: str = "CNY") -> dict[str, int]:
        """The accounts with a balance other than 0; above 0 is a debit."""
        sums = {
            account.name.lower(): debits - credits_
            for (one, account), (debits, credits_) in self.journal.balances.items()
            if one == currency
        }
        return {name: amount for name, amount in sums.items() if amount}

    def turnover(self, account: Account, currency: str = "CNY") -> int:
        """The debits of an account."""
        return self.journal.balances.get((currency, account), [0, 0])[0]


def booked(scenario: PaymentsScenario) -> PartitionJournal:
    """The journal of one group's payments."""
    return PartitionJournal().take(scenario.log)
