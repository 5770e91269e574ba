"""The journal in double entry, folded from payment decisions: each event that moved money becomes balanced postings.

Entries of a partition form a hash chain, so a changed or missing entry shows. A decision that moved no money has an
entry, too. The fold is pure: the same log gives the same journal, byte for byte. Amounts are integers of minor units.
Duplicates of a decision are not booked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from typing import NamedTuple, Protocol

from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from services.payments.ledger.merkle import Tree
from services.payments.ledger.posting_rules import Account, OpenAmounts, postings_of

DAY_MS = 86_400_000
#: The end of the year 9999, in milliseconds since the epoch; a later decision time is invalid.
LATEST_MS = 253_402_300_799_999


class LedgerBroken(Exception):
    """The log differs from the one that was booked, or a record is not a decision. Booking stops."""


class NotBalanced(LedgerBroken):
    """A defect of the posting rules. The open amounts of the decision's group are partly updated."""


class Fault(IntEnum):
    """Faults of a record of the log."""

    UNREADABLE = 1
    #: Two different decisions of one version.
    CHANGED = 2
    #: A version is missing.
    GAP = 3
    #: A decision does not hold the digest of the one before.
    CHAIN = 4


class Posting(NamedTuple):
    """One line of an entry, in minor units. Above 0: a debit, which adds to the account; below: a credit."""

    account: Account
    currency: str
    amount: int


class Entry(NamedTuple):
    """The postings of one event; without postings, for a decision that moved no money."""

    partition: int
    offset: int
    number: int
    #: Time of the decision, in milliseconds since the epoch.
    time_ms: int
    group: str
    version: int
    order: str
    hold: str
    event: str
    postings: tuple[Posting, ...]
    decision_sha256: bytes
    #: Canonical bytes of the fields above; `hash` is the SHA-256 of the previous hash and these.
    raw: bytes = b""
    hash: bytes = b""


class Head(NamedTuple):
    """The end of a partition's journal."""

    partition: int
    #: Offset of the next record to book.
    next_offset: int = 0
    entries: int = 0
    #: Hash of the last entry.
    hash: bytes = b""


@dataclass(slots=True)
class GroupState:
    """State of a group that booking its next decision needs."""

    version: int = 0
    digest: bytes = b""
    open: OpenAmounts = field(default_factory=dict)


class GroupStore(Protocol):
    """States of groups by id. Booking changes a state in place and then puts it."""

    def get(self, group: str, /) -> GroupState | None:
        """State of a group; None: nothing of it is booked."""
        ...

    def put(self, group: str, state: GroupState, /) -> None:
        """Stores a state."""
        ...


class InMemoryGroups(dict[str, GroupState]):
    """States of groups in memory: for tools and tests."""

    put = dict.__setitem__


#: Receives a fault, group, version, offset and text.
FaultHandler = Callable[[Fault, str, int, int, str], None]


def raise_fault(fault: Fault, group: str, version: int, offset: int, text: str) -> None:
    """Raises LedgerBroken for any fault."""
    raise LedgerBroken(f"offset {offset}: {text}")


class Journal:
    """The journal of one partition."""

    def __init__(
        self, partition: int, groups: GroupStore, on_fault: FaultHandler = raise_fault, *, trimmed: bool = False
    ) -> None:
        """`trimmed`: the beginning of the log is deleted, so the first decision of a group may have any version."""
        self.head = Head(partition)
        #: Debits and credits by currency and account.
        self.balances: dict[tuple[str, Account], list[int]] = {}
        #: One tree of entry hashes a day, by days since the epoch. The day of an entry is at least that of the last.
        self.days: dict[int, Tree] = {}
        self.day = 0
        self._groups = groups
        self._on_fault = on_fault
        self.trimmed = trimmed

    def book(self, offset: int, key: bytes | None, value: bytes) -> list[Entry]:
        """Books the next record of the log. A duplicate of a decision has no entries. Raises LedgerBroken."""
        if offset < self.head.next_offset:
            return []
        self.head = self.head._replace(next_offset=offset + 1)
        decision = PaymentDecision()
        try:
            decision.ParseFromString(value)
        except Exception as error:  # noqa: BLE001 - any error means that the bytes are not a decision
            self._on_fault(Fault.UNREADABLE, "", 0, offset, f"can't be decoded: {error!r}")
            return []
        group = decision.group
        if key is None or group.encode() != key or decision.version < 1:
            self._on_fault(
                Fault.UNREADABLE, group, decision.version, offset, f"not a payment decision of group {key!r}"
            )
            return []
        if not 0 <= decision.time_ms <= LATEST_MS or any(not event.WhichOneof("body") for event in decision.events):
            text = f"payments of {group} version {decision.version}: an unknown event or an invalid time"
            self._on_fault(Fault.UNREADABLE, group, decision.version, offset, text)
            return []
        digest = sha256(value).digest()
        state = self._groups.get(group) or GroupState()
        if not self._follows(state, decision, digest, offset):
            return []
        entries = self._entries(state, decision, digest, offset)
        state.version, state.digest = decision.version, digest
        self._groups.put(group, state)
        return entries

    def _follows(self, state: GroupState, decision: PaymentDecision, digest: bytes, offset: int) -> bool:
        """Whether a decision is new; False for a duplicate."""
        version, group = decision.version, decision.group
        if version <= state.version:
            if version == state.version and digest != state.digest:
                text = f"a second, different decision of the payments of {group} version {version}"
                self._on_fault(Fault.CHANGED, group, version, offset, text)
            return False
        if version > state.version + 1 and (state.version or not self.trimmed):
            text = f"payments of {group} go from version {state.version} to {version}"
            self._on_fault(Fault.GAP, group, version, offset, text)
        elif state.version and decision.previous_sha256 != state.digest:
            text = f"payments of {group} version {version} does not hold the digest of version {state.version}"
            self._on_fault(Fault.CHAIN, group, version, offset, text)
        return True

    def _entries(self, state: GroupState, decision: PaymentDecision, digest: bytes, offset: int) -> list[Entry]:
        partition, group, version, time_ms = self.head.partition, decision.group, decision.version, decision.time_ms
        made: list[Entry] = []
        for event in decision.events:
            moved = postings_of(state.open, event)
            if moved is None:
                continue
            order, hold, name, lines = moved
            postings = tuple([Posting(*line) for line in lines])
            _check_balanced(postings, offset)
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
        return [self._append(entry, tree) for entry in made]

    def _append(self, entry: Entry, tree: Tree) -> Entry:
        head = self.head
        raw = _canonical_bytes(entry)
        chained = sha256(head.hash + raw).digest()
        self.head = Head(head.partition, head.next_offset, head.entries + 1, chained)
        tree.add(chained)
        for account, currency, amount in entry.postings:
            sums = self.balances.get((currency, account))
            if sums is None:
                sums = self.balances[currency, account] = [0, 0]
            sums[amount < 0] += abs(amount)
        return entry._replace(raw=raw, hash=chained)


def _check_balanced(postings: tuple[Posting, ...], offset: int) -> None:
    """Debits equal credits in each currency. Raises NotBalanced."""
    sums: dict[str, int] = {}
    for _, currency, amount in postings:
        sums[currency] = sums.get(currency, 0) + amount
    if any(sums.values()):
        raise NotBalanced(f"offset {offset}: postings are not balanced: {sums}")


def day_of(time_ms: int) -> int:
    """Days since the epoch, in UTC."""
    return time_ms // DAY_MS


def _canonical_bytes(entry: Entry) -> bytes:
    """The entry's bytes without its hash. A change of this format changes every hash."""
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


def parse_entry(raw: bytes, chained: bytes) -> Entry:
    """An entry from its canonical bytes and its hash."""
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
