"""One stock item, folded from inventory.stock.v1 alone and checked event by event.

Every piece is free, leased to one group, or sold, at every decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from groupbuy.inventory.v1 import decisions_pb2 as pb
from groupbuy.inventory.v1.decisions_pb2 import StockDecision
from msgspec import Struct, field

from ops.audit.chain import Chain, apply_events
from ops.audit.findings import Findings, Invariant

#: Groups in line that one decision may answer; the next decision continues.
ANSWERS_BATCH = 64


class Heard(Struct, array_like=True, gc=False):
    """One decision of a stock item about a decision of a group, in pieces."""

    #: Version of the stock item's decision, and partition and cause of the group's.
    version: int
    partition: int
    cause: int
    group: str
    returned: int = 0
    sold: int = 0
    closed: bool = False
    #: Pieces of a lease; 0: none.
    leased: int = 0
    #: Whether the group was told that there are too few.
    denied: bool = False
    #: Whether the group has a lease or waits in line after the decision.
    known: bool = False


class StockBooks(Struct, array_like=True):
    """The pieces of one stock item."""

    created: bool = False
    archived: bool = False
    total: int = 0
    sold: int = 0
    #: Pieces by group, and their sum. A group stays until it asks for no more and has none.
    leases: dict[str, int] = field(default_factory=dict)
    leased: int = 0
    #: Groups that ask for no more and still have pieces.
    closed: dict[str, None] = field(default_factory=dict)
    #: Groups that wait in line, with the pieces that each needs at least.
    line: dict[str, int] = field(default_factory=dict)
    #: Greatest cause that was heard from each partition.
    heard: dict[int, int] = field(default_factory=dict)
    offer: int = 0
    faulted: str = ""
    #: Time of the last decision, in milliseconds since the epoch.
    time_ms: int = 0

    @property
    def free(self) -> int:
        """Pieces that can be leased."""
        return self.total - self.sold - self.leased


class StockFold:
    """A stock item, folded from its decisions."""

    __slots__ = ("_decision", "_findings", "_heard", "_served", "books", "chain", "heard", "key", "leases")

    def __init__(self, key: str, findings: Findings, *, tracks: bool = True) -> None:
        """`tracks`: keeps what was heard and leased, for the comparison with the groups' logs."""
        self.key = key
        self.chain = Chain()
        self.books = StockBooks()
        #: Facts received from groups, and pieces by group and version of the decision; empty if it is not tracked.
        self.heard: list[Heard] | None = [] if tracks else None
        self.leases: dict[tuple[str, int], int] = {}
        self._findings = findings
        # Of the decision that is folded.
        self._decision = StockDecision()
        self._heard: Heard | None = None
        self._served = 0

    def take(self, value: bytes, decision: StockDecision, log_trimmed: bool) -> bool:
        """Folds the next decision. Returns False for a duplicate."""
        if not self.chain.take(value, decision, log_trimmed, self._violation):
            return False
        if self.chain.trimmed:
            return True
        self._decision = decision
        self.books.time_ms = decision.time_ms
        self._heard = None
        self._served = 0
        apply_events(self, self._HANDLERS, decision, decision.events[:], self._violation)
        heard = self._heard
        if heard is not None and self.heard is not None:
            heard.known = heard.group in self.books.line or heard.group in self.books.leases
            self.heard.append(heard)
        self._check()
        return True

    def _violation(self, invariant: Invariant, what: str) -> None:
        self._findings.breach(invariant, "", "", f"stock item {self.key}: {what}")

    def _check(self) -> None:
        """The invariants after every decision."""
        books = self.books
        free = books.free
        if free < 0 or books.sold < 0:
            self._violation(
                Invariant.PIECES, f"{free} free, {books.leased} leased and {books.sold} sold of {books.total} pieces"
            )
        for group, at_least in books.line.items():
            if at_least <= free and self._served < ANSWERS_BATCH and not books.faulted:
                self._violation(Invariant.LEASES, f"group {group} waits for {at_least} pieces, {free} are free")
            break
        if books.created and not books.faulted:
            offer = pb.OFFER_STATE_LIVE if free > 0 else pb.OFFER_STATE_SOLD_OUT
            if books.offer != (pb.OFFER_STATE_ENDED if books.archived else offer):
                what = f"its offer is {pb.OfferState.Name(books.offer)} with {free} free pieces"  # type: ignore[arg-type]
                self._violation(Invariant.PIECES, what)

    # --- the merchant ------------------------------------------------------------------------------------------------

    def _created(self, event: Any) -> None:
        if self.books.created:
            self._violation(Invariant.PIECES, "created twice")
        self.books.created = True
        self.books.total = event.total

    def _updated(self, event: Any) -> None:
        books = self.books
        books.total = event.total
        if event.total < books.sold + books.leased:
            what = f"lowered to {event.total} pieces, {books.sold + books.leased} are out"
            self._violation(Invariant.PIECES, what)

    def _archived(self, event: Any) -> None:
        self.books.archived = True

    def _command_refused(self, event: Any) -> None:
        """A command without effect changes nothing."""

    def _offer_changed(self, event: Any) -> None:
        self.books.offer = event.state

    def _faulted(self, event: Any) -> None:
        self.books.faulted = event.error
        self._findings.alarm(f"stock item {self.key}: the rules failed with {event.error}")

    # --- groups ------------------------------------------------------------------------------------------------------

    def _group_heard(self, event: Any) -> None:
        books = self.books
        if event.cause <= books.heard.get(event.partition, -1):
            what = f"hears decision {event.cause} of group {event.group} in partition {event.partition} again"
            self._violation(Invariant.LEASES, what)
        books.heard[event.partition] = max(event.cause, books.heard.get(event.partition, -1))
        self._heard = Heard(self._decision.version, event.partition, event.cause, event.group)

    def _of_heard(self, body: str, group: str) -> Heard:
        """The facts that this decision received. An event that nothing explains is a violation."""
        heard = self._heard
        if heard is None or heard.group != group:
            self._violation(Invariant.LEASES, f"{body} of group {group} without a decision of the group")
            return Heard(0, 0, 0, group)
        return heard

    def _leased(self, event: Any) -> None:
        books, group = self.books, event.group
        if event.units <= 0 or books.archived or event.units > books.free:
            self._violation(Invariant.PIECES, f"leases {event.units} pieces to group {group}, {books.free} are free")
        if event.from_line:
            first = next(iter(books.line), "")
            if first != group or event.units < books.line.get(group, 0):
                self._violation(Invariant.LEASES, f"leases {event.units} pieces to {group}, {first} is first in line")
            books.line.pop(group, None)
            self._served += 1
        else:
            if books.line:
                self._violation(Invariant.LEASES, f"leases pieces to {group}, which overtakes the line")
            self._of_heard("leased", group).leased += event.units
        books.leases[group] = books.leases.get(group, 0) + event.units
        books.leased += event.units
        if self.heard is not None:
            self.leases[group, self._decision.version] = event.units

    def _out_of_stock(self, event: Any) -> None:
        books, group = self.books, event.group
        if event.queued:
            books.line[group] = event.at_least
        elif group in books.line and books.archived:
            del books.line[group]
            return
        usable = 0 if books.archived or len(books.line) > event.queued else books.free
        if not books.faulted and (event.free != usable or event.at_least <= usable):
            what = f"denies {event.at_least} pieces to group {group}, {usable} can be had, not {event.free}"
            self._violation(Invariant.LEASES, what)
        self._of_heard("out_of_stock", group).denied = True

    def _take(self, group: str, units: int) -> None:
        books = self.books
        left = books.leases.get(group, 0) - units
        if units <= 0 or left < 0:
            self._violation(Invariant.PIECES, f"takes {units} pieces of group {group}, it has {left + units}")
        books.leased -= units
        if left or group not in books.closed:
            books.leases[group] = left
        else:
            del books.leases[group], books.closed[group]

    def _returned(self, event: Any) -> None:
        self._of_heard("returned", event.group).returned += event.units
        self._take(event.group, event.units)

    def _sold(self, event: Any) -> None:
        self._of_heard("sold", event.group).sold += event.units
        self._take(event.group, event.units)
        self.books.sold += event.units

    def _closed(self, event: Any) -> None:
        books, group = self.books, event.group
        self._of_heard("closed", group).closed = True
        if group in books.closed:
            self._violation(Invariant.LEASES, f"group {group} is closed twice")
        books.line.pop(group, None)
        if books.leases.get(group):
            books.closed[group] = None
        else:
            books.leases.pop(group, None)

    _HANDLERS: ClassVar[Mapping[str, Callable[[StockFold, Any], None]]] = {
        "created": _created,
        "updated": _updated,
        "archived": _archived,
        "heard": _group_heard,
        "leased": _leased,
        "out_of_stock": _out_of_stock,
        "returned": _returned,
        "sold": _sold,
        "closed": _closed,
        "command_refused": _command_refused,
        "offer_changed": _offer_changed,
        "faulted": _faulted,
    }
