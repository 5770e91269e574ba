"""The books in double entry, folded from payment decisions: each event that moved money becomes balanced postings.

Entries are chained by hash within a partition, so that none can be changed or taken out unnoticed, and a decision that
moved nothing has an entry too. Pure: the same log gives the same books, byte for byte. Must never round, and never book
a repeat of a decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from typing import NamedTuple, Protocol

from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from services.payments.ledger.merkle import Tree
from services.payments.ledger.posting_rules import Account, Open, moves

__all__ = [
    "Account",
    "Entry",
    "Fold",
    "GroupBooks",
    "Groups",
    "Head",
    "LedgerBroken",
    "NotBalanced",
    "Posting",
    "day_of",
]

DAY_MS = 86_400_000
#: The end of the year 9999, in milliseconds since the epoch. No decision was made later.
LATEST_MS = 253_402_300_799_999


class LedgerBroken(Exception):
    """The log of decisions is not what the books were made of, or not a log of decisions. Nothing may be booked on."""


class NotBalanced(LedgerBroken):
    """A defect of the posting rules. The books of the decision's group are half changed."""


class Fault(IntEnum):
    """What can be wrong with a record of the log."""

    UNREADABLE = 1
    #: Two different decisions of one version.
    CHANGED = 2
    #: A version is left out.
    GAP = 3
    #: A decision does not carry the digest of the one before.
    CHAIN = 4


class Posting(NamedTuple):
    """One line of an entry, in minor units. Above 0: a debit, the account gets more; below: a credit."""

    account: Account
    currency: str
    amount: int


class Entry(NamedTuple):
    """What one event did to the books; without postings, for a decision that moved no money."""

    partition: int
    offset: int
    number: int
    #: The decision's, in milliseconds since the epoch.
    time_ms: int
    group: str
    version: int
    order: str
    hold: str
    event: str
    postings: tuple[Posting, ...]
    decision_sha256: bytes
    #: Canonical bytes of all above: what the hash is made of, after the hash before.
    raw: bytes = b""
    hash: bytes = b""


class Head(NamedTuple):
    """How far the ledger of a partition has come."""

    partition: int
    #: Offset of the record that is booked next.
    next_offset: int = 0
    entries: int = 0
    #: Of the last entry.
    hash: bytes = b""


@dataclass(slots=True)
class GroupBooks:
    """What must be known of a group to book its next decision."""

    version: int = 0
    digest: bytes = b""
    open: Open = field(default_factory=dict)


class Groups(Protocol):
    """Books of groups by id. What was got is changed in place, and then put."""

    def get(self, group: str, /) -> GroupBooks | None:
        """Books of a group; None: it has none yet."""
        ...

    def put(self, group: str, books: GroupBooks, /) -> None:
        """Keeps them."""
        ...


class InMemory(dict[str, GroupBooks]):
    """Books of groups in memory: for tools and tests."""

    put = dict.__setitem__


#: (what is wrong, group, version, offset, in words)
Complain = Callable[[Fault, str, int, int, str], None]


def raising(fault: Fault, group: str, version: int, offset: int, what: str) -> None:
    """Stops at anything that is wrong."""
    raise LedgerBroken(f"offset {offset}: {what}")


class Fold:
    """The ledger of one partition. `trimmed`: the log's beginning is gone, so groups may begin in the middle."""

    def __init__(self, partition: int, groups: Groups, complain: Complain = raising, *, trimmed: bool = False) -> None:
        self.head = Head(partition)
        #: Debits and credits by currency and account.
        self.balances: dict[tuple[str, Account], list[int]] = {}
        #: One tree of entry hashes a day, by days since the epoch. The day of an entry never goes back.
        self.days: dict[int, Tree] = {}
        self.day = 0
        self._groups = groups
        self._complain = complain
        self.trimmed = trimmed

    def take(self, offset: int, key: bytes | None, value: bytes) -> list[Entry]:
        """Books the next record of the log; nothing for a repeat of a decision. Raises LedgerBroken."""
        if offset < self.head.next_offset:
            return []
        self.head = self.head._replace(next_offset=offset + 1)
        decision = PaymentDecision()
        try:
            decision.ParseFromString(value)
        except Exception as error:  # noqa: BLE001 - whatever the bytes are, they are no decision
            self._complain(Fault.UNREADABLE, "", 0, offset, f"can't be decoded: {error!r}")
            return []
        group = decision.group
        if key is None or group.encode() != key or decision.version < 1:
            self._complain(Fault.UNREADABLE, group, decision.version, offset, f"no decision of the group {key!r}")
            return []
        if not 0 <= decision.time_ms <= LATEST_MS or any(not event.WhichOneof("body") for event in decision.events):
            what = f"purse {group} version {decision.version} holds an unknown event or was decided at no time"
            self._complain(Fault.UNREADABLE, group, decision.version, offset, what)
            return []
        digest = sha256(value).digest()
        books = self._groups.get(group) or GroupBooks()
        if not self._follows(books, decision, digest, offset):
            return []
        entries = self._entries(books, decision, digest, offset)
        books.version, books.digest = decision.version, digest
        self._groups.put(group, books)
        return entries

    def _follows(self, books: GroupBooks, decision: PaymentDecision, digest: bytes, offset: int) -> bool:
        """Whether a decision is the next one of its purse; False for a repeat."""
        version, group = decision.version, decision.group
        if version <= books.version:
            if version == books.version and digest != books.digest:
                what = f"a second, different decision of purse {group} version {version}"
                self._complain(Fault.CHANGED, group, version, offset, what)
            return False
        if version > books.version + 1 and (books.version or not self.trimmed):
            what = f"purse {group} goes from version {books.version} to {version}"
            self._complain(Fault.GAP, group, version, offset, what)
        elif books.version and decision.previous_sha256 != books.digest:
            what = f"purse {group} version {version} does not carry the digest of version {books.version}"
            self._complain(Fault.CHAIN, group, version, offset, what)
        return True

    def _entries(self, books: GroupBooks, decision: PaymentDecision, digest: bytes, offset: int) -> list[Entry]:
        partition, group, version, time_ms = self.head.partition, decision.group, decision.version, decision.time_ms
        made: list[Entry] = []
        for event in decision.events:
            moved = moves(books.open, event)
            if moved is None:
                continue
            order, hold, name, lines = moved
            postings = tuple([Posting(*line) for line in lines])
            check_balanced(postings, offset)
            made.append(
                Entry(partition, offset, len(made), time_ms, group, version, order, hold, name, postings, digest)
            )
        if not made:
            made.append(Entry(partition, offset, 0, time_ms, group, version, "", "", "", (), digest))
        day = max(self.day, day_of(time_ms))
        tree = self.days.get(day)
        if tree is None:
            tree = self.days[day] = Tree()
        self.day = day
        return [self._book(entry, tree) for entry in made]

    def _book(self, entry: Entry, tree: Tree) -> Entry:
        head = self.head
        raw = canonical(entry)
        chained = sha256(head.hash + raw).digest()
        self.head = Head(head.partition, head.next_offset, head.entries + 1, chained)
        tree.add(chained)
        for account, currency, amount in entry.postings:
            sums = self.balances.get((currency, account))
            if sums is None:
                sums = self.balances[currency, account] = [0, 0]
            sums[amount < 0] += abs(amount)
        return entry._replace(raw=raw, hash=chained)


def check_balanced(postings: tuple[Posting, ...], offset: int) -> None:
    """Debits equal credits in each currency. Raises NotBalanced."""
    sums: dict[str, int] = {}
    for _, currency, amount in postings:
        sums[currency] = sums.get(currency, 0) + amount
    if any(sums.values()):
        raise NotBalanced(f"offset {offset}: postings are not balanced: {sums}")


def day_of(time_ms: int) -> int:
    """Days since the epoch, in UTC."""
    return time_ms // DAY_MS


def canonical(entry: Entry) -> bytes:
    """The entry's bytes without its hash. Changing how they are made changes every hash."""
    parts = [
        entry.partition.to_bytes(4, "big"),
        entry.offset.to_bytes(8, "big"),
        entry.number.to_bytes(4, "big"),
        entry.time_ms.to_bytes(8, "big", signed=True),
        entry.version.to_bytes(8, "big", signed=True),
        entry.decision_sha256,
    ]
    for text in (entry.group, entry.order, entry.hold, entry.event):
        raw = text.encode()
        parts += (len(raw).to_bytes(4, "big"), raw)
    for account, currency, amount in entry.postings:
        raw = currency.encode()
        parts += (bytes((account, len(raw))), raw, amount.to_bytes(9, "big", signed=True))
    return b"".join(parts)


def parsed(raw: bytes, chained: bytes) -> Entry:
    """The entry of canonical bytes, with its hash."""
    at = 64
    texts: list[str] = []
    for _ in range(4):
        size = int.from_bytes(raw[at : at + 4], "big")
        texts.append(raw[at + 4 : at + 4 + size].decode())
        at += 4 + size
    postings: list[Posting] = []
    while at < len(raw):
        account, size = Account(raw[at]), raw[at + 1]
        currency = raw[at + 2 : at + 2 + size].decode()
        at += 2 + size
        postings.append(Posting(account, currency, int.from_bytes(raw[at : at + 9], "big", signed=True)))
        at += 9
    return Entry(
        partition=int.from_bytes(raw[:4], "big"),
        offset=int.from_bytes(raw[4:12], "big"),
        number=int.from_bytes(raw[12:16], "big"),
        time_ms=int.from_bytes(raw[16:24], "big", signed=True),
        version=int.from_bytes(raw[24:32], "big", signed=True),
        decision_sha256=raw[32:64],
        group=texts[0],
        order=texts[1],
        hold=texts[2],
        event=texts[3],
        postings=tuple(postings),
        raw=raw,
        hash=chained,
    )
