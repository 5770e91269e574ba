"""The sums over the summaries of all groups. Adding and removing a summary is exact, so the sums never drift.

Ages need no list of the open work: open holds and unsettled groups are counted by the minute in which they began. The
memory grows with the number of minutes, not with the number of groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from msgspec import Struct, field

from ops.audit.findings import Violation
from ops.audit.fold import Place
from ops.watch.folding.summary import Money, Pieces, Summary

K = TypeVar("K")

_MINUTE_MS = 60_000
#: Texts of the newest findings that are kept.
MAX_TEXTS = 50

#: Time after which no message between groups and a stock item is on its way, in milliseconds.
QUIET_MS = 60_000

#: Lower bounds of the ages in the label `older_than`, in milliseconds.
AGES: dict[str, int] = {"0": 0, "1h": 3_600_000, "1d": 86_400_000, "5d": 5 * 86_400_000}

#: Minute since the epoch -> [count, minor units].
Minutes = dict[int, list[int]]


class KeptPrice(Struct, array_like=True, gc=False):
    """Groups whose price stayed though captures failed, and what their merchant bears for it."""

    groups: int = 0
    cost_minor: int = 0

    def add(self, groups: int, cost_minor: int) -> None:
        """Adds groups and their cost. Both are negative to remove a group."""
        self.groups += groups
        self.cost_minor += cost_minor


class Totals(Struct, array_like=True):
    """The sums of one worker, or of all."""

    records: int = 0
    #: Duplicate records of decisions.
    duplicates: int = 0
    dead_letters: int = 0
    groups: dict[str, int] = field(default_factory=dict)
    orders: dict[str, int] = field(default_factory=dict)
    money: dict[str, Money] = field(default_factory=dict)
    #: Charges and captures of the groups without pending work. They are equal if the books balance.
    closed_books: dict[str, list[int]] = field(default_factory=dict)
    #: Open holds by currency and by the minute of their authorisation.
    holds: dict[str, Minutes] = field(default_factory=dict)
    #: Open holds by provider and by the minute after which they can't be captured.
    lapses: dict[str, Minutes] = field(default_factory=dict)
    #: Unsettled groups by the minute since which they are.
    unsettled: Minutes = field(default_factory=dict)
    pending: int = 0
    #: Violations that single records show, by invariant, and the first text of each. They never end.
    by_invariant: dict[int, int] = field(default_factory=dict)
    first: dict[int, str] = field(default_factory=dict)
    #: Violations between the logs, by invariant, as of the last consistent cut.
    across: dict[int, int] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    #: Records that can't be decoded, until an operator skips them.
    unreadable: list[tuple[Place, Violation]] = field(default_factory=list)
    alarms: int = 0
    #: Topics whose first records are gone, as `topic/partition`.
    trimmed: list[str] = field(default_factory=list)
    #: By stock item.
    pieces: dict[str, Pieces] = field(default_factory=dict)
    #: By campaign and currency, which an edit of the campaign may change.
    kept_prices: dict[str, dict[str, KeptPrice]] = field(default_factory=dict)

    def add(self, summary: Summary, sign: int = 1) -> None:
        """Adds the summary of a group or, with -1, removes it."""
        if summary.end:
            _count(self.groups, summary.end, sign)
        for end, count in summary.orders.items():
            _count(self.orders, end, sign * count)
        for currency, money in summary.money.items():
            self.money.setdefault(currency, Money()).add(money, sign)
            if not summary.pending:
                books = self.closed_books.setdefault(currency, [0, 0])
                books[0] += sign * money.charged
                books[1] += sign * money.kept
        for hold in summary.holds:
            _tally(self.holds.setdefault(hold.currency, {}), hold.authorised_ms, hold.minor, sign)
            if hold.capturable_until_ms:
                _tally(self.lapses.setdefault(hold.provider, {}), hold.capturable_until_ms, hold.minor, sign)
        if summary.unsettled_since_ms:
            _tally(self.unsettled, summary.unsettled_since_ms, 0, sign)
        self.pending += sign * summary.pending
        if summary.stock:
            pieces = self.pieces.setdefault(summary.stock, Pieces())
            pieces.held += sign * summary.held
            pieces.charged += sign * summary.charged
            pieces.at_ms = max(pieces.at_ms, summary.at_ms)
        if summary.kept_price_minor:
            self._kept_price(summary.campaign, summary.currency).add(sign, sign * summary.kept_price_minor)

    def _kept_price(self, campaign: str, currency: str) -> KeptPrice:
        return self.kept_prices.setdefault(campaign, {}).setdefault(currency, KeptPrice())

    def note(self, violation: Violation) -> None:
        """Keeps the text of a violation."""
        self.first.setdefault(int(violation.invariant), str(violation))
        self.texts.append(str(violation))
        del self.texts[:-MAX_TEXTS]

    def merge(self, other: Totals) -> None:
        """Adds the sums of another worker."""
        self.records += other.records
        self.duplicates += other.duplicates
        self.dead_letters += other.dead_letters
        self.pending += other.pending
        self.alarms += other.alarms
        for mine, theirs in ((self.groups, other.groups), (self.orders, other.orders)):
            for end, count in theirs.items():
                _count(mine, end, count)
        for invariants, more in ((self.by_invariant, other.by_invariant), (self.across, other.across)):
            for invariant, count in more.items():
                _count(invariants, invariant, count)
        for currency, money in other.money.items():
            self.money.setdefault(currency, Money()).add(money)
        for currency, (charged, kept) in other.closed_books.items():
            books = self.closed_books.setdefault(currency, [0, 0])
            books[0] += charged
            books[1] += kept
        for target, source in ((self.holds, other.holds), (self.lapses, other.lapses)):
            for name, minutes in source.items():
                _merge(target.setdefault(name, {}), minutes)
        _merge(self.unsettled, other.unsettled)
        for stock, pieces in other.pieces.items():
            self.pieces.setdefault(stock, Pieces()).add(pieces)
        for campaign, by_currency in other.kept_prices.items():
            for currency, one in by_currency.items():
                self._kept_price(campaign, currency).add(one.groups, one.cost_minor)
        for invariant, text in other.first.items():
            self.first.setdefault(invariant, text)
        self.texts = [*self.texts, *other.texts][-MAX_TEXTS:]
        self.unreadable = [*self.unreadable, *other.unreadable]
        self.trimmed = [*self.trimmed, *other.trimmed]

    @property
    def violations(self) -> dict[int, int]:
        """All violations by invariant."""
        found = dict(self.by_invariant)
        for invariant, count in self.across.items():
            found[invariant] = found.get(invariant, 0) + count
        for _place, violation in self.unreadable:
            found[violation.invariant] = found.get(violation.invariant, 0) + 1
        return {invariant: count for invariant, count in sorted(found.items()) if count}

    def unequal_pieces(self, now_ms: int) -> Iterator[tuple[str, Pieces]]:
        """The stock items whose log differs from the groups' logs. A lease, a return or a sale may be on its way for
        QUIET_MS after the last decision."""
        for stock, pieces in sorted(self.pieces.items()):
            if not pieces.equal and now_ms - pieces.at_ms > QUIET_MS:
                yield stock, pieces

    def kept_prices_by_currency(self) -> dict[str, KeptPrice]:
        """The kept prices of all campaigns."""
        found: dict[str, KeptPrice] = {}
        for by_currency in self.kept_prices.values():
            for currency, one in by_currency.items():
                found.setdefault(currency, KeptPrice()).add(one.groups, one.cost_minor)
        return found

    def unbalanced(self) -> Iterator[tuple[str, int, int]]:
        """Currency, charges and captures of the groups without pending work, where they differ."""
        for currency, (charged, kept) in sorted(self.closed_books.items()):
            if charged != kept:
                yield currency, charged, kept


def older(minutes: Minutes, now_ms: int) -> dict[str, tuple[int, int]]:
    """Count and minor units by age, with the labels of AGES. Exact to a minute."""
    found = dict.fromkeys(AGES, (0, 0))
    for minute, (count, minor) in minutes.items():
        age_ms = now_ms - minute * _MINUTE_MS
        for label, least_ms in AGES.items():
            if age_ms >= least_ms or not least_ms:
                counted, amount = found[label]
                found[label] = counted + count, amount + minor
    return found


def first_ms(minutes: Minutes) -> int | None:
    """The beginning of the first minute with something open, in milliseconds since the epoch."""
    return min(minutes) * _MINUTE_MS if minutes else None


def _count(counts: dict[K, int], name: K, count: int) -> None:
    counts[name] = counts.get(name, 0) + count


def _tally(minutes: Minutes, at_ms: int, minor: int, sign: int) -> None:
    minute = at_ms // _MINUTE_MS
    entry = minutes.setdefault(minute, [0, 0])
    entry[0] += sign
    entry[1] += sign * minor
    if not entry[0]:
        del minutes[minute]


def _merge(mine: Minutes, theirs: Mapping[int, list[int]]) -> None:
    for minute, (count, minor) in theirs.items():
        entry = mine.setdefault(minute, [0, 0])
        entry[0] += count
        entry[1] += minor
