"""Consequences of a call beside its hold: details, balance transactions, and incidents planned for later."""

from __future__ import annotations

import sqlite3
from typing import Any

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.balance import Balance
from simulators.psp.accounts.details import Details, DetailStore, by_hand
from simulators.psp.accounts.holds import Hold
from simulators.psp.accounts.incidents import Incidents
from simulators.psp.accounts.life_rules import INCIDENT_SUFFIXES, LifeRules
from simulators.psp.accounts.statement_entries import OWN, wire_of

#: Kinds of plans. Their subjects: a refund's key, a hold, a dispute.
FAIL_REFUND, REVERSE_REFUND, DISPUTE, WARN, CLOSE_DISPUTE, LAPSE = (
    "fail_refund",
    "reverse_refund",
    "dispute",
    "warn",
    "close_dispute",
    "lapse",
)


def _carries_details(request: Any) -> bool:
    """Whether a call over gRPC has more than its key, order and group."""
    return isinstance(request, pb.AuthoriseRequest) and bool(request.environment or request.metadata)


class Consequences:
    """Writes consequences in the open transaction of their call."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.rules = LifeRules()
        self.details = DetailStore(db)
        self.balance = Balance(db)
        self.incidents = Incidents(db)

    def record(self, request: Any, result: pb.CallResult, hold: Hold, at_ms: int) -> None:
        """Records the consequences of a call or a confirmation, once for each key."""
        wire = wire_of(hold.payment_method)
        if wire != OWN or _carries_details(request):
            self._add_details(request, result, hold, at_ms)
        if wire == OWN and self.rules.quiet and not hold.payment_method.endswith(INCIDENT_SUFFIXES):
            return
        if result.status == pb.STATUS_CAPTURED or (result.status == pb.STATUS_AUTHORISED and hold.sale):
            self._take(result, hold, wire, at_ms)
        elif result.status == pb.STATUS_REFUNDED:
            self._refund(result, hold, wire, at_ms)

    def book(
        self, kind: pb.BalanceKind.ValueType, hold: Hold, source: str, amount_minor: int, fee_minor: int, at_ms: int
    ) -> None:
        """Books a change of the balance if transactions of the hold's wire are kept."""
        wire = wire_of(hold.payment_method)
        if self.rules.keeps_balance(wire, OWN):
            self.balance.add(wire, kind, hold.hold, source, hold.currency, amount_minor, fee_minor, at_ms)

    def _add_details(self, request: Any, result: pb.CallResult, hold: Hold, at_ms: int) -> None:
        if isinstance(request, pb.ConfirmRequest):
            return
        metadata = dict(getattr(request, "metadata", {})) or None
        if getattr(request, "without_metadata", False):
            metadata = {}
        environment = customer = ""
        if isinstance(request, pb.AuthoriseRequest):
            environment = request.environment or (metadata or {}).get("environment", "")
            customer = request.customer
        if by_hand(result.key):
            metadata = {}
        self.details.add(result.key, hold.hold, hold.order, Details(at_ms, environment, customer, metadata))

    def _take(self, result: pb.CallResult, hold: Hold, wire: str, at_ms: int) -> None:
        minor = result.amount_minor
        self.book(pb.BALANCE_KIND_CHARGE, hold, result.key, minor, self.rules.fee_minor(minor), at_ms)
        due_ms = at_ms + self.rules.behaviour.dispute_ms
        if self.rules.warns(hold):
            self.incidents.plan(due_ms, WARN, hold.hold)
        if self.rules.disputes(hold):
            self.incidents.plan(due_ms, DISPUTE, hold.hold)

    def _refund(self, result: pb.CallResult, hold: Hold, wire: str, at_ms: int) -> None:
        fee_minor = -self.rules.returned_fee_minor(wire, result.amount_minor)
        self.book(pb.BALANCE_KIND_REFUND, hold, result.key, -result.amount_minor, fee_minor, at_ms)
        undoing = self.rules.refund_undoing(hold, result.key)
        if undoing is not None and not by_hand(result.key):
            kind = FAIL_REFUND if undoing == pb.STATUS_REFUND_FAILED else REVERSE_REFUND
            self.incidents.plan(at_ms + self.rules.behaviour.refund_undo_ms, kind, result.key)
