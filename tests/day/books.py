"""The books at the end of the day, folded anew from the payment log, against the provider's statement and balance."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from groupbuy.payments.v1.decisions_pb2 import (
    OPERATION_CAPTURE,
    OPERATION_REFUND,
    OPERATION_VOID,
    PaymentDecision,
)
from groupbuy.simprovider.v1.simprovider_pb2 import (
    BALANCE_KIND_DISPUTE,
    BALANCE_KIND_PAYOUT,
    BalanceTransaction,
    StatementEntry,
)

from ops.ledger.fold import Ledger
from ops.log.reader import Reader
from services.payments.ledger.journal import Entry
from services.payments.ledger.posting_rules import Account
from shared_kernel.topics import PAYMENT_LOG

#: Accounts whose sum is the merchant's money at the provider.
AT_PROVIDER = (Account.CLEARING, Account.MERCHANT, Account.SUSPENSE, Account.OWED, Account.ADJUSTMENTS)
#: With these the sum is the money that was taken and not returned, before fees and payouts.
GROSS = (*AT_PROVIDER, Account.FEES, Account.PAYOUTS)

#: The names of operations in the provider's dashboard.
BY_HAND = {OPERATION_REFUND: "refund", OPERATION_CAPTURE: "capture", OPERATION_VOID: "cancel"}

Owed = tuple[str, str, str, str]


@dataclass(slots=True)
class Books:
    """The payment log of the day."""

    #: Sums by currency and account, and by hold and account.
    accounts: defaultdict[str, Counter[Account]] = field(default_factory=lambda: defaultdict(Counter))
    holds: defaultdict[str, Counter[Account]] = field(default_factory=lambda: defaultdict(Counter))
    #: Group and order of each hold.
    places: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: Events by kind.
    events: Counter[str] = field(default_factory=Counter)
    #: (operator, reason, action) by request id, of repairs that were done.
    repairs: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    #: Disputes that were opened; and kind and hold of what people did at the provider, once for each operation.
    disputes: set[str] = field(default_factory=set)
    by_hand: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: What is owed at the end: (amount, next attempt in ms, alarm) by group, order, hold and refund.
    owed: dict[Owed, tuple[int, int, bool]] = field(default_factory=dict)
    #: Sums that were owed after a decision, and that nobody pursued and no alarm told of.
    unattended: set[str] = field(default_factory=set)
    #: Refunds that are pending.
    pending: set[Owed] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    _versions: dict[str, int] = field(default_factory=dict)

    def book(self, entries: Iterable[Entry]) -> None:
        """Takes entries of the ledger."""
        for entry in entries:
            for posting in entry.postings:
                self.accounts[posting.currency][posting.account] += posting.amount
                self.holds[entry.hold][posting.account] += posting.amount
            self.places.setdefault(entry.hold, (entry.group, entry.order))

    def follow(self, decision: PaymentDecision) -> None:
        """Takes a decision."""
        if decision.version <= self._versions.get(decision.group, 0):
            return
        self._versions[decision.group] = decision.version
        for event in decision.events:
            kind = event.WhichOneof("body") or ""
            self.events[kind] += 1
            self._take(decision.group, kind, getattr(event, kind))
        self.unattended |= {
            f"groups/{name[0]}/orders/{name[1]}: {amount} in version {decision.version}"
            for name, (amount, next_ms, alarm) in self.owed.items()
            if name[0] == decision.group and not (alarm or next_ms or name in self.pending)
        }

    def _take(self, group: str, kind: str, body: Any) -> None:
        match kind:
            case "operator_acted" if not body.refusal:
                action = body.action.WhichOneof("action") or ""
                self.repairs[body.request_id] = (body.operator, body.reason, action)
            case "dispute_opened":
                self.disputes.add(body.dispute)
            case "external_operation_recorded":
                self.by_hand[BY_HAND[body.operation], body.hold] += 1
            case "money_owed":
                name = (group, body.order, body.hold, body.refund)
                self.owed.pop(name, None)
                self.pending.discard(name)
                if body.amount_minor:
                    self.owed[name] = (body.amount_minor, body.next_attempt_ms, body.alarm)
            case "refund_requested":
                self.pending.add((group, body.call.order, body.call.hold, body.call.refund))
            case "refunded" | "refund_declined":
                hold = getattr(body, "hold", "")
                self.pending = {
                    one for one in self.pending if one[:2] != (group, body.order) or hold not in ("", one[2])
                }
            case "faulted":
                self.faults.append(f"group {group}: {body.error}")

    def unexplained(self, statement: Iterable[StatementEntry]) -> list[str]:
        """Holds whose money at the provider is not the one in our books."""
        found = []
        theirs = {one.hold: one for one in statement}
        for hold in sorted({*theirs, *self.holds} - {""}):
            entry = theirs.get(hold, StatementEntry())
            there = entry.captured_minor - entry.refunded_minor - entry.disputed_minor
            here = sum(self.holds[hold][account] for account in GROSS)
            held = self.holds[hold][Account.HOLDS]
            if there != here or entry.open_minor != held:
                place = "/".join(self.places.get(hold, ("?", "?")))
                found.append(f"{hold} of {place}: {there} and {entry.open_minor} held there, {here} and {held} here")
        return found

    def unequal(self, statement: Iterable[StatementEntry], balance: Iterable[BalanceTransaction]) -> list[str]:
        """Currencies whose balance, fees or payouts at the provider are not those of our ledger."""
        ours = {one.hold for one in statement}
        theirs: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for one in balance:
            if one.kind == BALANCE_KIND_PAYOUT or one.hold not in ours:
                continue
            sums = theirs[one.currency]
            sums["fees"] += one.fee_minor
            sums["payouts" if one.payout else "balance"] += one.amount_minor - one.fee_minor
        found = []
        for currency in sorted({*theirs, *self.accounts}):
            here = self.accounts[currency]
            books = {
                "fees": here[Account.FEES],
                "payouts": here[Account.PAYOUTS],
                "balance": sum(here[account] for account in AT_PROVIDER),
            }
            for name, amount in books.items():
                if amount != theirs[currency][name]:
                    found.append(f"{currency} {name}: {theirs[currency][name]} there, {amount} here")
            if here[Account.ADJUSTMENTS]:
                found.append(f"{currency}: adjustments of {here[Account.ADJUSTMENTS]} are left")
        return found


async def read_books(kafka: str) -> Books:
    """Reads the payment log to its end."""
    books = Books()

    def refuse(_fault: Any, group: str, version: int, partition: int, offset: int, what: str) -> None:
        books.faults.append(f"{partition}:{offset} version {version} of group {group}: {what}")

    ledger = Ledger(books.book, refuse)

    def take(_topic: str, records: list[Any]) -> None:
        ledger.take(records)
        for record in records:
            books.follow(PaymentDecision.FromString(record.value))

    async with Reader(kafka, [PAYMENT_LOG.name]) as reader:
        for (_, partition), offset in (await reader.beginnings()).items():
            ledger.begins_at(partition, offset)
        await reader.read_to_end(take)
    return books


def dispute_fee(one: BalanceTransaction) -> bool:
    """Whether the fee of a transaction is a dispute's, which the news of the dispute has."""
    return one.kind == BALANCE_KIND_DISPUTE


def life_recorded(books: Books, disputes: Iterable[str], by_hand: Mapping[str, Iterable[str]]) -> list[str]:
    """Disputes and operations by hand that the log lacks, has in addition, or has twice.

    `by_hand` has the holds of the operations, by kind.
    """
    wanted = Counter((kind, hold) for kind, holds in by_hand.items() for hold in holds)
    found = [f"dispute {one} is on one side alone" for one in sorted(books.disputes ^ set(disputes))]
    for kind, hold in sorted(wanted.keys() | books.by_hand.keys()):
        made, recorded = wanted[kind, hold], books.by_hand[kind, hold]
        if made != recorded:
            found.append(f"{kind} of {hold} by hand: {made} at the provider, {recorded} in the log")
    return found


def repairs_recorded(accepted: Mapping[str, tuple[str, str]], books: Books) -> list[str]:
    """Repairs that the log lacks, or has with another operator, without a reason, or twice; and unknown ones."""
    found = [f"{one} is not in the log" for one in accepted.keys() - books.repairs.keys()]
    found += [f"{one} was not made" for one in books.repairs.keys() - accepted.keys()]
    for request_id, (operator, action) in accepted.items():
        recorded = books.repairs.get(request_id)
        if recorded is not None and (recorded[0], recorded[2], bool(recorded[1])) != (operator, action, True):
            found.append(f"{request_id}: {recorded}, not {operator} {action}")
    return found
