"""A statement for a comparison: its movements summed by payment, with the totals by currency.

Reading is a stream; the sums need memory for each payment, and none for each movement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.statements.movements import Kind, Movement


@dataclass(slots=True)
class Totals:
    """Sums of one currency, in minor units. `balance` is the change of the merchant's balance at the provider."""

    charged: int = 0
    refunded: int = 0
    disputed: int = 0
    fees: int = 0
    paid_out: int = 0
    adjusted: int = 0
    balance: int = 0


@dataclass(slots=True)
class Statement:
    """The entries of a statement by payment.

    `money_only`: it lists money that moved, and no holds, so that held and released amounts are not known.
    """

    provider: str = ""
    money_only: bool = True
    entries: dict[str, StatementEntry] = field(default_factory=dict)
    totals: dict[str, Totals] = field(default_factory=dict)
    #: Amounts by payout and currency, in minor units; None: the statement does not list them.
    payouts: dict[tuple[str, str], int] | None = field(default_factory=dict)
    #: Movements of money without a payment: payouts and adjustments, by kind.
    without_payment: Counter[Kind] = field(default_factory=Counter)
    movements: int = 0

    def take(self, movement: Movement) -> None:
        """Takes the next movement."""
        self.movements += 1
        totals = self.totals.setdefault(movement.currency, Totals())
        totals.balance += movement.amount_minor - movement.fee_minor
        totals.fees += movement.fee_minor
        self._total(totals, movement)
        if movement.kind in (Kind.PAYOUT, Kind.PAYOUT_UNDONE) and self.payouts is not None:
            name = movement.source or movement.reference, movement.currency
            self.payouts[name] = self.payouts.get(name, 0) - movement.amount_minor
        if movement.hold:
            self._add(movement)
        else:
            self.without_payment[movement.kind] += 1

    def take_all(self, movements: Iterable[Movement]) -> Statement:
        """Takes all movements; returns the statement."""
        for movement in movements:
            self.take(movement)
        return self

    @staticmethod
    def _total(totals: Totals, movement: Movement) -> None:
        amount = movement.amount_minor
        match movement.kind:
            case Kind.CHARGE:
                totals.charged += amount
            case Kind.REFUND | Kind.REFUND_UNDONE:
                totals.refunded -= amount
            case Kind.DISPUTE | Kind.DISPUTE_REVERSAL:
                totals.disputed -= amount
            case Kind.PAYOUT | Kind.PAYOUT_UNDONE:
                totals.paid_out -= amount
            case Kind.FEE:
                totals.fees -= amount
            case Kind.ADJUSTMENT:
                totals.adjusted += amount

    def _add(self, movement: Movement) -> None:
        entry = self.entries.get(movement.hold)
        if entry is None:
            entry = self.entries[movement.hold] = StatementEntry(
                hold=movement.hold, currency=movement.currency, wire=movement.provider
            )
        entry.order = entry.order or movement.order
        entry.group = entry.group or movement.group
        entry.environment = entry.environment or movement.environment
        entry.fees_minor += movement.fee_minor
        amount = movement.amount_minor
        match movement.kind:
            case Kind.CHARGE:
                entry.captured_minor += amount
                entry.authorised_minor += amount
                entry.captures += 1
            case Kind.REFUND:
                entry.refunded_minor -= amount
            case Kind.REFUND_UNDONE:
                entry.refunded_minor -= amount
                entry.refunds_undone_minor += amount
            case Kind.DISPUTE | Kind.DISPUTE_REVERSAL:
                entry.disputed_minor -= amount
            case Kind.FEE:
                entry.fees_minor -= amount
            case _:
                pass
