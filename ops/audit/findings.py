"""The findings of an audit, in the order of their discovery: violations, alarms and pending work."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

MAX_KEPT = 10_000


class Invariant(IntEnum):
    """The numbered invariants of the product. ARCHITECTURE.md has their full text."""

    BALANCED = 1
    HELD_IS_ACCOUNTED_FOR = 2
    ONE_CAPTURE = 3
    RIGHT_AMOUNT = 4
    CAPTURE_AFTER_COMPLETION = 5
    SEATS = 6
    ONE_END_OF_GROUP = 7
    ONE_END_OF_ORDER = 8
    ENDS_IN_TIME = 9
    REFUNDS_WITHIN_CAPTURES = 10
    SAME_REQUEST_SAME_RESULT = 11
    REPLAY = 12
    ACKNOWLEDGED_IS_LOGGED = 13
    VERSIONS = 14
    BOOKS_EQUAL = 15
    CHAIN = 16
    PARTITION = 17
    FOLLOWS_INPUT = 18
    OWED = 19
    REPAIRS = 20
    PIECES = 21
    LEASES = 22
    LIMITS = 23
    SALE_TIMES = 24


TITLES: dict[Invariant, str] = {
    Invariant.BALANCED: "debits = credits per currency",
    Invariant.HELD_IS_ACCOUNTED_FOR: "captured + released = held, for every hold",
    Invariant.ONE_CAPTURE: "at most one effective capture per hold",
    Invariant.RIGHT_AMOUNT: "capture = tier price × quantity, within the hold and the agreed maximum",
    Invariant.CAPTURE_AFTER_COMPLETION: "no capture before its group completed",
    Invariant.SEATS: "seats within the capacity and each customer's limit",
    Invariant.ONE_END_OF_GROUP: "each group has exactly one valid outcome",
    Invariant.ONE_END_OF_ORDER: "every order has one outcome and one final state",
    Invariant.ENDS_IN_TIME: "deadlines met, nothing left open",
    Invariant.REFUNDS_WITHIN_CAPTURES: "refunds within captures",
    Invariant.SAME_REQUEST_SAME_RESULT: "same request, same result",
    Invariant.REPLAY: "replay gives the same digest",
    Invariant.ACKNOWLEDGED_IS_LOGGED: "every acknowledged order is in the log",
    Invariant.VERSIONS: "versions without gaps, one decision per version",
    Invariant.BOOKS_EQUAL: "the provider's statement equals our books",
    Invariant.CHAIN: "hash chain intact",
    Invariant.PARTITION: "every group is in the partition of its key",
    Invariant.FOLLOWS_INPUT: "decisions follow from their inputs: terms, seats, refusals and times",
    Invariant.OWED: "money owed is returned, or an operator is alarmed",
    Invariant.REPAIRS: "repairs are commanded by operators, adjustments by two of them",
    Invariant.PIECES: "free + leased + sold = total, never negative, and every seat has its pieces",
    Invariant.LEASES: "every lease answers a request, and is sold or returned",
    Invariant.LIMITS: "a customer's pieces over all groups stay within the campaign's limit",
    Invariant.SALE_TIMES: "nothing is sold outside the times of its sale",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A violated invariant, the group and order concerned (empty if there is none), and a description."""

    invariant: Invariant
    group: str
    order: str
    what: str

    def __str__(self) -> str:
        about = f" group {self.group}" if self.group else ""
        about += f" order {self.order}" if self.order else ""
        return f"invariant {int(self.invariant)}{about}: {self.what}"


@dataclass(slots=True)
class Findings:
    """Collects findings. Beyond MAX_KEPT violations only their count grows: a broken log breaks all that follows."""

    violations: list[Violation] = field(default_factory=list)
    by_invariant: dict[Invariant, int] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    #: The alarms that are still open: an operator has to act.
    open_alarms: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    pending_count: int = 0

    @property
    def violation_count(self) -> int:
        """The number of all violations, kept or not."""
        return sum(self.by_invariant.values())

    def breach(self, invariant: Invariant, group: str, order: str, what: str) -> None:
        """Adds a violation."""
        self.by_invariant[invariant] = self.by_invariant.get(invariant, 0) + 1
        if len(self.violations) < MAX_KEPT:
            self.violations.append(Violation(invariant, group, order, what))

    def alarm(self, what: str) -> None:
        """Adds something that violates no invariant but that an operator should investigate."""
        if len(self.alarms) < MAX_KEPT:
            self.alarms.append(what)

    def open_alarm(self, what: str) -> None:
        """Adds an alarm that is still open."""
        if len(self.open_alarms) < MAX_KEPT:
            self.open_alarms.append(what)

    def add_pending(self, what: str) -> None:
        """Adds pending work. Keeps the first 100 descriptions."""
        self.pending_count += 1
        if len(self.pending) < 100:
            self.pending.append(what)

    def copy(self) -> Findings:
        """An independent copy of the findings."""
        return Findings(
            list(self.violations),
            dict(self.by_invariant),
            list(self.alarms),
            list(self.open_alarms),
            list(self.pending),
            self.pending_count,
        )
