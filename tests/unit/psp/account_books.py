"""Helpers of the simulator's tests: an account book on a file, a manual clock, and calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.account_book import AccountBook, Request
from simulators.psp.accounts.holds import Change, Refusal, hold_id
from simulators.psp.accounts.life_rules import LifeRules
from simulators.psp.accounts.provider_life import ProviderLife
from simulators.psp.notifications.outbox import Notice

START_MS = 1_700_000_000_000
LIFE_MS = 1_000


class Clock:
    """A manual clock."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


class Books:
    """An account book on a file, with holds that live LIFE_MS."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.account_book = AccountBook(path, self.clock, LIFE_MS)
        self.life = ProviderLife(self.account_book)
        #: Changes that were announced to the merchant, once `listen` was called.
        self.changes: list[Change] = []

    def behave(self, **behaviour: Any) -> None:
        """Sets the rules of the provider's life, with a fixed seed."""
        self.account_book.consequences.rules = LifeRules(pb.Behaviour(**behaviour), "7")

    def listen(self) -> None:
        """Collects the changes of which the merchant is notified."""
        self.account_book.notices = self._notices

    def announced(self) -> list[str]:
        """Statuses of the changes so far, without STATUS_."""
        return [pb.Status.Name(change.result.status).removeprefix("STATUS_") for change in self.changes]

    def _notices(self, change: Change) -> list[Notice]:
        self.changes.append(change)
        return []

    def balance(self) -> list[tuple[str, int, int]]:
        """Kind, amount and fee of each balance transaction, oldest first."""
        return [
            (pb.BalanceKind.Name(one.kind).removeprefix("BALANCE_KIND_"), one.amount_minor, one.fee_minor)
            for one, _ in self.account_book.balance_statement()
        ]

    def reopen(self) -> None:
        """Closes the file and opens it again."""
        self.account_book.close()
        self.account_book = AccountBook(self.path, self.clock, LIFE_MS)
        self.life = ProviderLife(self.account_book)

    def apply(self, request: Request) -> pb.CallResult:
        """Applies one call in a transaction. Raises its refusal."""
        (answer,) = self.account_book.apply([request])
        if isinstance(answer, Refusal):
            raise answer
        return answer

    def entry(self, hold: str) -> pb.StatementEntry:
        """The statement entry of a hold."""
        return {one.hold: one for one in self.account_book.statement()}[hold]

    def statement(self) -> Sequence[pb.StatementEntry]:
        return list(self.account_book.statement())


def authorise(
    key: str = "a:authorise:1", method: str = "card_ok", *, minor: int = 100, sale: bool = False
) -> pb.AuthoriseRequest:
    return pb.AuthoriseRequest(
        key=key, order="a", group="g", payment_method=method, amount_minor=minor, currency="CNY", sale=sale
    )


#: The hold of `authorise()`.
HOLD = hold_id("a:authorise:1")


def capture(minor: int, key: str = "a:capture:1", hold: str = HOLD) -> pb.CaptureRequest:
    return pb.CaptureRequest(key=key, hold=hold, amount_minor=minor)


def void(key: str = "a:void:1", hold: str = HOLD) -> pb.VoidRequest:
    return pb.VoidRequest(key=key, hold=hold)


def refund(minor: int, key: str = "a:refund:1", hold: str = HOLD) -> pb.RefundRequest:
    return pb.RefundRequest(key=key, hold=hold, amount_minor=minor)


def adds_up(entry: pb.StatementEntry) -> bool:
    """Whether the amounts of a hold add up."""
    return (
        entry.authorised_minor == entry.captured_minor + entry.released_minor + entry.open_minor
        and min(entry.captured_minor, entry.released_minor, entry.open_minor) >= 0
        and 0 <= entry.refunded_minor <= entry.captured_minor
        and entry.captures == (1 if entry.captured_minor else 0)
    )
