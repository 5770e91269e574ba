"""What an audit finds: violations of the invariants, and alarms that a person should look into.

Never decides by itself how bad a run was: it only keeps what it is told, in the order it was told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

MAX_KEPT = 10_000


class Invariant(IntEnum):
    """The numbered invariants of the product; ARCHITECTURE.md has them in full."""

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


TITLES: dict[Invariant, str] = {
    Invariant.BALANCED: "debits = credits per currency",
    Invariant.HELD_IS_ACCOUNTED_FOR: "captured + let go = held, for every hold",
    Invariant.ONE_CAPTURE: "at most one effective capture a hold",
    Invariant.RIGHT_AMOUNT: "capture = tier price × quantity, within the hold and what was agreed",
    Invariant.CAPTURE_AFTER_COMPLETION: "no capture before its group completed",
    Invariant.SEATS: "seats within capacity, and within each customer's share",
    Invariant.ONE_END_OF_GROUP: "completed, expired or cancelled, and rightly so",
    Invariant.ONE_END_OF_ORDER: "every order has one outcome and one end",
    Invariant.ENDS_IN_TIME: "deadlines kept, nothing left open",
    Invariant.REFUNDS_WITHIN_CAPTURES: "refunds within captures",
    Invariant.SAME_REQUEST_SAME_RESULT: "same request, same result",
    Invariant.REPLAY: "replay gives the same digest",
    Invariant.ACKNOWLEDGED_IS_LOGGED: "what was acknowledged is in the log",
    Invariant.VERSIONS: "versions without gap, one event a version",
    Invariant.BOOKS_EQUAL: "provider's books = ours",
    Invariant.CHAIN: "hash chain intact",
    Invariant.PARTITION: "every group stands in the partition of its key",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One breach: which invariant, of which group and order (empty where it is about none), and what was seen."""

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
    """Collects. Beyond MOST_KEPT violations only the number grows: a broken log breaks everything after it."""

    violations: list[Violation] = field(default_factory=list)
    by_invariant: dict[Invariant, int] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    under_way: list[str] = field(default_factory=list)
    under_way_count: int = 0

    @property
    def violation_count(self) -> int:
        """All violations, kept or not."""
        return sum(self.by_invariant.values())

    def breach(self, invariant: Invariant, group: str, order: str, what: str) -> None:
        """An invariant does not hold."""
        self.by_invariant[invariant] = self.by_invariant.get(invariant, 0) + 1
        if len(self.violations) < MAX_KEPT:
            self.violations.append(Violation(invariant, group, order, what))

    def alarm(self, what: str) -> None:
        """Something that the rules allow and that a person should look into all the same."""
        if len(self.alarms) < MAX_KEPT:
            self.alarms.append(what)

    def going_on(self, what: str) -> None:
        """Something that is not over yet."""
        self.under_way_count += 1
        if len(self.under_way) < 100:
            self.under_way.append(what)

    def copy(self) -> Findings:
        """What was found so far, to add to without touching the original."""
        return Findings(
            list(self.violations),
            dict(self.by_invariant),
            list(self.alarms),
            list(self.under_way),
            self.under_way_count,
        )
