"""How tests book: decisions of stories, or made by hand, become records of one partition, folded as services do."""

from __future__ import annotations

from collections.abc import Iterable

from services.payments.ledger.journal import Entry, InMemoryGroups, Journal
from services.payments.ledger.posting_rules import Account
from tests.unit.payments.stories import GROUP, Story


class Books:
    """The ledger of a partition in memory."""

    def __init__(self) -> None:
        self.journal = Journal(0, InMemoryGroups())
        self.entries: list[Entry] = []

    def take(self, values: Iterable[bytes], group: str = GROUP) -> Books:
        for value in values:
            self.entries += self.journal.book(self.journal.head.next_offset, group.encode(), value)
        return self

    def balances(self, currency: str = "CNY") -> dict[str, int]:
        """Accounts that are not at zero; what an account got is above 0."""
        sums = {
            account.name.lower(): debits - credits_
            for (one, account), (debits, credits_) in self.journal.balances.items()
            if one == currency
        }
        return {name: amount for name, amount in sums.items() if amount}

    def turnover(self, account: Account, currency: str = "CNY") -> int:
        """All that an account ever got."""
        return self.journal.balances.get((currency, account), [0, 0])[0]


def booked(story: Story) -> Books:
    """The books of one purse."""
    return Books().take(story.log)
