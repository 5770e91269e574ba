"""Counts events, faults and transitions of a run. Counting does not change the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupEvent
from groupbuy.inventory.v1.decisions_pb2 import AllowanceEvent, StockEvent
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.groups.domain import transitions
from services.groups.domain.model import OrderStatus, Phase
from services.groups.domain.version_2 import transitions as version_2
from tests.simulation.payment_rows import ROWS, Row, counted_rows

#: All faults of a world. A long run has to meet each of them.
FAULTS = (
    "crash", "crash, half its output written", "crash, output arrives after its death", "zombie woke", "rebalance",
    "recovered from a checkpoint", "recovered from nothing", "recovered from a zombie's checkpoint",
    "broker clock back an hour", "broker clock ahead", "service clock a day ahead", "service clock a day behind",
    "silence after a restart", "broker away", "slow consumer", "lost tick", "request repeated",
    "request with another payload",
    "late notification",
    "time-out, not done", "time-out, done", "proven absent", "declined at authorise", "declined at capture",
    "refund declined", "hold lapsed, reported", "hold lapsed, not reported", "second hold of one order",
    "money for an unknown order", "unexpected capture", "invalid claim", "poison record", "old schema",
    "newer schema", "defect in the rules", "forged payment event", "campaign edited", "stale campaign",
    "dead letter", "call stuck", "wrong configuration", "failed at the provider, proven not done", "return refused",
    "refund reversed", "refused refund succeeded", "dispute", "refunded by hand", "refund by hand reversed",
    "captured by hand", "voided by hand", "fee and payout", "operator", "operator attends a call",
    "sale after its close", "paid refund declined", "checked hold open", "checked hold ended",
    "forged for an order without admission",
)  # fmt: skip
EVENTS = tuple(
    f"{kind}.{one.name}"
    for kind, event in (
        ("group", GroupEvent), ("payment", PaymentEvent), ("stock", StockEvent), ("allowance", AllowanceEvent),
    )
    for one in event.DESCRIPTOR.oneofs_by_name["body"].fields
)  # fmt: skip
#: Orders in these states have money only by a fault that the provider reports beside another one.
_RARELY_OWED = ("REFUSED", "ORPHANED", "WAITLISTED", "ADMITTING", "RESERVED", "CONFIRMED", "CAPTURE_DECLINED")
#: The prefix of the rows that rules version 2 has in place of those of version 1, or beside them.
VERSION_2 = "version 2 "
TRANSITIONS = tuple(
    f"{prefix}{when.name} {row.on}"
    for prefix, rows in (
        ("", transitions.GROUP), ("", transitions.ORDER), (VERSION_2, version_2.GROUP), (VERSION_2, version_2.ORDER),
    )
    for row in rows
    for when in row.when
    if row.on != "money_owed" or when.name not in _RARELY_OWED
) + tuple(f"payment {state} {report}" for state, report in ROWS)  # fmt: skip
KNOWN = {"fault": FAULTS, "event": EVENTS, "transition": TRANSITIONS}


class Coverage:
    """Counters by kind and name."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def count(self, kind: str, name: str) -> None:
        """Adds one."""
        self.counts[kind, name] += 1

    def add(self, counts: Iterable[tuple[tuple[str, str], int]]) -> None:
        """Adds another run's counts."""
        for name, number in counts:
            self.counts[name] += number

    def missing(self) -> list[str]:
        """Known names that the run did not meet."""
        return [f"{kind} {name}" for kind, names in KNOWN.items() for name in names if not self.counts[kind, name]]

    def lines(self) -> Iterator[str]:
        """The report, one line for each name."""
        for kind, names in KNOWN.items():
            unknown = sorted(name for found, name in self.counts if found == kind and name not in names)
            yield f"{kind}s"
            for name in (*names, *unknown):
                yield f"  {self.counts[kind, name]:>12,}  {name}"


@contextmanager
def counted_transitions(coverage: Coverage) -> Iterator[None]:
    """Counts each use of a row of the tables of groups, orders and payments while the block runs."""
    tables = (transitions.ON_GROUP, transitions.ON_ORDER, version_2.ON_GROUP, version_2.ON_ORDER)
    before = [[dict(rows) for rows in table] for table in tables]
    #: The rows of each table that are not those of version 1.
    new: tuple[tuple[Any, ...], ...] = ((), (), version_2.GROUP, version_2.ORDER)
    for table, names, new_rows in zip(tables, (Phase, OrderStatus) * 2, new, strict=True):
        for state, rows in zip(names, table, strict=True):
            for on, row in rows.items():
                prefix = VERSION_2 if row in new_rows else ""
                rows[on] = replace(row, act=_counting(coverage, f"{prefix}{state.name} {on}", row.act))
    labels = {row: ("transition", "payment " + " ".join(row)) for row in ROWS}
    counts = coverage.counts

    def count(row: Row) -> None:
        counts[labels[row]] += 1

    try:
        with counted_rows(count):
            yield
    finally:
        for table, saved in zip(tables, before, strict=True):
            for rows, old in zip(table, saved, strict=True):
                rows.clear()
                rows.update(old)


def _counting(coverage: Coverage, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
    counts, label = coverage.counts, ("transition", name)

    def counting(state: Any, item: Any, at_ms: int) -> Any:
        counts[label] += 1
        return act(state, item, at_ms)

    return counting
