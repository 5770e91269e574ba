"""From which account to which each event moves money. A table that can be read; must never decide anything.

| event | from | to |
|-|-|-|
| HoldAuthorised | customer | holds; clearing, if taken by a sale |
| Captured | holds (nothing, if it was a sale) | clearing, and on to merchant; the rest of the hold to customer |
| Voided, HoldLapsed | holds; suspense, if nobody had asked for it | customer |
| SuspenseRecorded | customer | suspense |
| Refunded, by command | merchant | refunds, and on to customer |
| Refunded, by the purse | suspense, clearing or merchant: where the hold's money is | refunds, and on to customer |

Only the last rows need to know more than the event: where money of a hold stands that is not the merchant's yet.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from itertools import pairwise
from typing import Any, TypeAlias

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent


class Account(IntEnum):
    """The accounts, numbered as LedgerAccount."""

    CUSTOMER = 1
    HOLDS = 2
    CLEARING = 3
    MERCHANT = 4
    REFUNDS = 5
    SUSPENSE = 6


CUSTOMER, HOLDS, CLEARING = Account.CUSTOMER, Account.HOLDS, Account.CLEARING
MERCHANT, REFUNDS, SUSPENSE = Account.MERCHANT, Account.REFUNDS, Account.SUSPENSE

#: Money in clearing or suspense, by order, hold, currency and account. What is at rest is not in it.
Open: TypeAlias = dict[tuple[str, str, str, int], int]
#: (account, currency, amount): a debit above 0, a credit below.
Line: TypeAlias = tuple[Account, str, int]
#: Order, hold, name of the event, lines.
Moved: TypeAlias = tuple[str, str, str, list[Line]]


def moves(open_: Open, event: PaymentEvent) -> Moved | None:
    """The lines of an event, two for each step of the money; None: it moves none. Changes `open_`."""
    kind = event.WhichOneof("body")
    booked = _BOOKED.get(kind) if kind is not None else None
    if booked is None:
        return None
    name, move = booked
    body = getattr(event, kind)  # type: ignore[arg-type] # a kind that is booked is not None
    lines: list[Line] = []
    move(open_, body, lines)
    return (body.order, body.hold, name, lines) if lines else None


def _step(lines: list[Line], currency: str, amount: int, *accounts: Account) -> None:
    """Moves an amount along accounts. Nothing is no step."""
    if amount:
        for left, reached in pairwise(accounts):
            lines.append((left, currency, -amount))
            lines.append((reached, currency, amount))


def _add(open_: Open, body: Any, account: Account, amount: int) -> None:
    if amount:
        name = (body.order, body.hold, body.currency, int(account))
        open_[name] = open_.get(name, 0) + amount


def _take(open_: Open, body: Any, account: Account, most: int) -> int:
    """Takes up to an amount of a hold's open money; returns how much."""
    name = (body.order, body.hold, body.currency, int(account))
    there = open_.get(name, 0)
    taken = min(there, most)
    if there > taken:
        open_[name] = there - taken
    else:
        open_.pop(name, None)
    return taken


def _hold_authorised(open_: Open, body: pb.HoldAuthorised, lines: list[Line]) -> None:
    if body.operation == pb.OPERATION_SALE:
        _step(lines, body.currency, body.amount_minor, CUSTOMER, CLEARING)
        _add(open_, body, CLEARING, body.amount_minor)
    else:
        _step(lines, body.currency, body.amount_minor, CUSTOMER, HOLDS)


def _captured(open_: Open, body: pb.Captured, lines: list[Line]) -> None:
    sold = _take(open_, body, CLEARING, body.amount_minor)
    _step(lines, body.currency, sold, CLEARING, MERCHANT)
    _step(lines, body.currency, body.amount_minor - sold, HOLDS, CLEARING, MERCHANT)
    _step(lines, body.currency, body.released_minor, HOLDS, CUSTOMER)


def _let_go(open_: Open, body: pb.Voided | pb.HoldLapsed, lines: list[Line]) -> None:
    unasked = _take(open_, body, SUSPENSE, body.amount_minor)
    _step(lines, body.currency, unasked, SUSPENSE, CUSTOMER)
    _step(lines, body.currency, body.amount_minor - unasked, HOLDS, CUSTOMER)


def _suspense_recorded(open_: Open, body: pb.SuspenseRecorded, lines: list[Line]) -> None:
    _step(lines, body.currency, body.amount_minor, CUSTOMER, SUSPENSE)
    _add(open_, body, SUSPENSE, body.amount_minor)


def _refunded(open_: Open, body: pb.Refunded, lines: list[Line]) -> None:
    left = body.amount_minor
    if not body.refund:
        for account in (SUSPENSE, CLEARING):
            taken = _take(open_, body, account, left)
            _step(lines, body.currency, taken, account, REFUNDS, CUSTOMER)
            left -= taken
    _step(lines, body.currency, left, MERCHANT, REFUNDS, CUSTOMER)


_BOOKED: dict[str, tuple[str, Callable[[Open, Any, list[Line]], None]]] = {
    "hold_authorised": ("HoldAuthorised", _hold_authorised),
    "captured": ("Captured", _captured),
    "voided": ("Voided", _let_go),
    "hold_lapsed": ("HoldLapsed", _let_go),
    "suspense_recorded": ("SuspenseRecorded", _suspense_recorded),
    "refunded": ("Refunded", _refunded),
}
