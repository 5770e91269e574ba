"""The allowance of one customer in one campaign, folded from inventory.allowance.v1 alone, checked event by event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from groupbuy.inventory.v1.decisions_pb2 import AllowanceDecision
from msgspec import Struct, field

from ops.audit.chain import Chain, apply_events
from ops.audit.findings import Findings, Invariant


class Admission(Struct, array_like=True, gc=False):
    """An order that was admitted."""

    group: str
    quantity: int
    #: Pieces of the customer with it.
    pieces: int


class AllowanceBooks(Struct, array_like=True):
    """The orders of one customer in one campaign."""

    #: Orders that count, and those that were given back.
    admitted: dict[str, Admission] = field(default_factory=dict)
    returned: dict[str, None] = field(default_factory=dict)
    #: Greatest cause that was heard from each partition.
    heard: dict[int, int] = field(default_factory=dict)

    @property
    def pieces(self) -> int:
        """Pieces of all orders that count."""
        return sum(one.quantity for one in self.admitted.values())


class AllowanceFold:
    """An allowance, folded from its decisions."""

    __slots__ = ("_findings", "_group", "admissions", "books", "chain", "key")

    def __init__(self, key: str, findings: Findings) -> None:
        self.key = key
        self.chain = Chain()
        self.books = AllowanceBooks()
        #: All admissions so far, by order.
        self.admissions: dict[str, Admission] = {}
        self._findings = findings
        # The group whose decision is taken into account.
        self._group: str | None = None

    def take(self, value: bytes, decision: AllowanceDecision, log_trimmed: bool) -> bool:
        """Folds the next decision. Returns False for a duplicate."""
        if not self.chain.take(value, decision, log_trimmed, self._violation):
            return False
        if self.chain.trimmed:
            return True
        self._group = None
        apply_events(self, self._HANDLERS, decision, decision.events[:], self._violation)
        return True

    def _violation(self, invariant: Invariant, what: str, order: str = "") -> None:
        self._findings.breach(invariant, "", order, f"allowance {self.key}: {what}")

    def _group_heard(self, event: Any) -> None:
        books = self.books
        if event.cause <= books.heard.get(event.partition, -1):
            what = f"hears decision {event.cause} of group {event.group} in partition {event.partition} again"
            self._violation(Invariant.LIMITS, what)
        books.heard[event.partition] = max(event.cause, books.heard.get(event.partition, -1))
        self._group = event.group

    def _of_group(self, order: str, group: str) -> None:
        if self._group != group:
            self._violation(Invariant.LIMITS, f"answers group {group}, which did not ask", order)

    def _admitted(self, event: Any) -> None:
        order, books = event.order, self.books
        self._of_group(order, event.group)
        if event.quantity <= 0:
            self._violation(Invariant.LIMITS, f"admits {event.quantity} pieces", order)
        if order in books.admitted:
            return
        admission = Admission(event.group, event.quantity, books.pieces + event.quantity)
        books.admitted[order] = self.admissions[order] = admission

    def _denied(self, event: Any) -> None:
        self._of_group(event.order, event.group)
        if event.order in self.books.admitted:
            self._violation(Invariant.LIMITS, "denied after its admission", event.order)

    def _returned(self, event: Any) -> None:
        if self._group is None:
            self._violation(Invariant.LIMITS, "given back without a decision of its group", event.order)
        if self.books.admitted.pop(event.order, None) is None:
            self._violation(Invariant.LIMITS, "given back, but it was not admitted", event.order)
        self.books.returned[event.order] = None

    def _faulted(self, event: Any) -> None:
        self._findings.alarm(f"allowance {self.key}: the rules failed with {event.error}")

    _HANDLERS: ClassVar[Mapping[str, Callable[[AllowanceFold, Any], None]]] = {
        "heard": _group_heard,
        "admitted": _admitted,
        "denied": _denied,
        "returned": _returned,
        "faulted": _faulted,
    }
