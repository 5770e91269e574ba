"""Our ledger against a provider's statement, hold by hold: what each says, how they differ, and the way to mend it.

Pure. Money is compared in minor units; nothing is rounded and nothing is netted: two errors that cancel out are two
errors. What a purse still waits to be answered is no error yet, and is never mended from here: the answer mends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.reconcile.claims import of_known, of_unknown
from services.payments.domain.model import GroupPayments
from services.payments.ledger.journal import Account, Entry

WAIT = "wait: a call about it is under way, and its answer will say"
MOVING = "look again: it was something else a moment ago"
BY_HAND = "by hand: "


class Kind(StrEnum):
    """What a comparison of one hold says."""

    MATCHED = "matched"
    OURS_ONLY = "ours only"
    THEIRS_ONLY = "theirs only"
    DIFFERS = "amount differs"


@dataclass(slots=True)
class Ours:
    """What our ledger says of one hold, in minor units."""

    group: str
    order: str
    hold: str
    currency: str
    authorised: int = 0
    captured: int = 0
    released: int = 0
    refunded: int = 0
    #: Nobody had asked for it.
    unasked: bool = False

    @property
    def open(self) -> int:
        """Still held."""
        return self.authorised - self.captured - self.released


@dataclass(frozen=True, slots=True)
class Line:
    """One hold, compared."""

    kind: Kind
    group: str
    order: str
    hold: str
    #: What differs, in words; empty where nothing does.
    what: str = ""
    #: The way to mend it; empty where there is nothing to mend.
    mend: str = ""
    #: A call about it is under way, so that its answer may mend it.
    under_way: bool = False
    #: What the purse is to be told; None: a person has to mend it.
    claim: ProviderOutcome | None = None

    def moving(self) -> Line:
        """The same where it differed in another way a moment ago, or not at all: nothing to be sure of yet."""
        if self.kind is Kind.MATCHED:
            return self
        return replace(self, under_way=True, mend=self.mend and MOVING, claim=None)


@dataclass(slots=True)
class Books:
    """Our side: holds by the provider's reference, summed up from the ledger's entries."""

    holds: dict[str, Ours] = field(default_factory=dict)

    def take(self, entries: Iterable[Entry]) -> None:
        """Takes entries of the ledger, in order."""
        for entry in entries:
            if entry.postings:
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        gets: dict[Account, int] = {}
        gives: dict[Account, int] = {}
        for account, _, amount in entry.postings:
            side = gets if amount > 0 else gives
            side[account] = side.get(account, 0) + abs(amount)
        hold = self.holds.get(entry.hold)
        known = hold is not None
        if hold is None:
            hold = self.holds[entry.hold] = Ours(entry.group, entry.order, entry.hold, entry.postings[0].currency)
        match entry.event:
            case "HoldAuthorised":
                hold.authorised += gives[Account.CUSTOMER]
                hold.captured += gets.get(Account.CLEARING, 0)
            case "Captured":
                # A sale's money was taken before: what leaves clearing only changes its owner.
                hold.captured += gets.get(Account.CLEARING, 0)
                hold.released += gets.get(Account.CUSTOMER, 0)
            case "SuspenseRecorded" if known:
                # Taken from what had been let go, or beyond what was asked for.
                hold.captured += gets[Account.SUSPENSE]
                hold.released -= gets[Account.SUSPENSE]
            case "SuspenseRecorded":
                hold.authorised, hold.unasked = gets[Account.SUSPENSE], True
            case "Refunded":
                hold.refunded += gets[Account.REFUNDS]
                if hold.unasked:
                    # That it had been taken, and not only held, is seen by its going back this way.
                    hold.captured += gives.get(Account.SUSPENSE, 0)
            case _:
                hold.released += gets.get(Account.CUSTOMER, 0)


def compare(ours: Books, purses: Mapping[str, GroupPayments], statement: Iterable[StatementEntry]) -> list[Line]:
    """Every hold that either side knows. Holds without any money in them are left out."""
    lines: list[Line] = []
    left = dict(ours.holds)
    for theirs in statement:
        if not (theirs.authorised_minor or theirs.captured_minor):
            continue
        known = left.pop(theirs.hold, None)
        group, order = (known.group, known.order) if known is not None else (theirs.group, theirs.order)
        under_way = _under_way(purses, group, order)
        if known is None:
            lines.append(_theirs_only(theirs, under_way))
        else:
            lines.append(_compared(known, theirs, under_way))
    for known in left.values():
        lines.append(_ours_only(known, _under_way(purses, known.group, known.order)))
    return lines


def _under_way(purses: Mapping[str, GroupPayments], group: str, order: str) -> bool:
    purse = purses.get(group)
    payment = purse.payment(order) if purse is not None else None
    return payment is not None and bool(payment.calls)


def _theirs_only(theirs: StatementEntry, under_way: bool) -> Line:
    what = f"{theirs.authorised_minor} {theirs.currency} there, nothing here"
    if theirs.captured_minor:
        what += f"; {theirs.captured_minor} taken, {theirs.refunded_minor} given back"
    claim = of_unknown(theirs)
    if claim is not None:
        mend = "feed it: the purse records it and sends its money back"
    else:
        mend = f"{BY_HAND}somebody gave a part back at the provider; give back the rest there, and note it"
    return _line(Kind.THEIRS_ONLY, theirs.group, theirs.order, theirs.hold, what, mend, under_way, claim)


def _ours_only(known: Ours, under_way: bool) -> Line:
    what = f"{known.authorised} {known.currency} here, nothing there"
    mend = (
        f"{BY_HAND}look the hold up at the provider; a statement that ends earlier, or of another account, "
        "does not have it"
    )
    return _line(Kind.OURS_ONLY, known.group, known.order, known.hold, what, mend, under_way, None)


def _compared(known: Ours, theirs: StatementEntry, under_way: bool) -> Line:
    pairs = (
        ("authorised", theirs.authorised_minor, known.authorised),
        ("captured", theirs.captured_minor, known.captured),
        ("let go", theirs.released_minor, known.released),
        ("given back", theirs.refunded_minor, known.refunded),
    )
    differences = [f"{name} {there} there, {here} here" for name, there, here in pairs if there != here]
    whose = (theirs.currency, theirs.group, theirs.order), (known.currency, known.group, known.order)
    if whose[0] != whose[1]:
        differences.append("{} of group {} order {} there".format(*whose[0]))
        differences.append("{} of group {} order {} here".format(*whose[1]))
    if not differences:
        return Line(Kind.MATCHED, known.group, known.order, known.hold)
    claim = None
    if whose[0] == whose[1] and theirs.authorised_minor == known.authorised:
        claim = of_known(theirs, held_here=known.open, captured_here=known.captured)
    what = "; ".join(differences)
    return _line(
        Kind.DIFFERS, known.group, known.order, known.hold, what, _mend(known, theirs, claim), under_way, claim
    )


def _mend(known: Ours, theirs: StatementEntry, claim: ProviderOutcome | None) -> str:
    if claim is not None:
        return "feed it: the purse books what the provider did, and does what follows from it"
    if theirs.refunded_minor > known.refunded:
        return f"{BY_HAND}somebody gave money back at the provider; note it, and don't refund it again"
    if theirs.refunded_minor < known.refunded:
        return f"{BY_HAND}ask the provider what became of the refund, and make it there again if it was lost"
    return f"{BY_HAND}ask the provider for the calls of this hold, and compare them with the decisions of the group"


def _line(
    kind: Kind, group: str, order: str, hold: str, what: str, mend: str, under_way: bool, claim: ProviderOutcome | None
) -> Line:
    if under_way:
        return Line(kind, group, order, hold, what, WAIT, under_way=True)
    return Line(kind, group, order, hold, what, mend, claim=claim)
