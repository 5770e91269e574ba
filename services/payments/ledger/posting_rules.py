"""Posting rules: from which account to which account each payment event moves money.

| event | from | to |
|-|-|-|
| HoldAuthorised | customer | holds; clearing, if taken by a sale |
| Captured | holds (nothing, if it was a sale) | clearing, and on to merchant; the rest of the hold to customer |
| Voided, HoldLapsed | holds; suspense, for unexpected funds | customer |
| SuspenseRecorded | customer | suspense |
| Refunded, by command | merchant | refunds, and on to customer |
| Refunded, without a command | where the hold's money is: suspense, clearing, merchant | refunds, and on to customer |

Captured, Voided, HoldLapsed and Refunded depend on more than the event: on a hold's money in clearing or suspense.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from itertools import pairwise
from typing import Any, TypeAlias

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentEvent


class Account(IntEnum):
    """The accounts, with the numbers of LedgerAccount."""

    CUSTOMER = 1
    HOLDS = 2
    CLEARING = 3
    MERCHANT = 4
    REFUNDS = 5
    SUSPENSE = 6


CUSTOMER, HOLDS, CLEARING = Account.CUSTOMER, Account.HOLDS, Account.CLEARING
MERCHANT, REFUNDS, SUSPENSE = Account.MERCHANT, Account.REFUNDS, Account.SUSPENSE

#: Money in clearing or suspense, by order, hold, currency and account.
OpenAmounts: TypeAlias = dict[tuple[str, str, str, int], int]
#: Account, currency, amount: a debit above 0, a credit below.
Line: TypeAlias = tuple[Account, str, int]
#: Order, hold, name of the event, lines.
Movement: TypeAlias = tuple[str, str, str, list[Line]]


def postings_of(open_: OpenAmounts, event: PaymentEvent) -> Movement | None:
    """The lines of an event, two for each step of the money; None: it moves no money. Updates `open_`."""
    kind = event.WhichOneof("body")
    rule = _RULES.get(kind) if kind is not None else None
    if rule is None:
        return None
    name, post = rule
    body = getattr(event, kind)  # type: ignore[arg-type] # a kind with a rule is not None
    lines: list[Line] = []
    post(open_, body, lines)
    return (body.order, body.hold, name, lines) if lines else None


def _step(lines: list[Line], currency: str, amount: int, *accounts: Account) -> None:
    """Moves an amount along accounts. Amount 0 adds no line."""
    if amount:
        for source, target in pairwise(accounts):
            lines.append((source, currency, -amount))
            lines.append((target, currency, amount))


def _add(open_: OpenAmounts, body: Any, account: Account, amount: int) -> None:
    if amount:
        name = (body.order, body.hold, body.currency, int(account))
        open_[name] = open_.get(name, 0) + amount


def _take(open_: OpenAmounts, body: Any, account: Account, limit: int) -> int:
    """Takes at most `limit` of a hold's open money; returns the amount taken."""
    name = (body.order, body.hold, body.currency, int(account))
    available = open_.get(name, 0)
    taken = min(available, limit)
    if available > taken:
        open_[name] = available - taken
    else:
        open_.pop(name, None)
    return taken


def _hold_authorised(open_: OpenAmounts, body: pb.HoldAuthorised, lines: list[Line]) -> None:
    if body.operation == pb.OPERATION_SALE:
        _step(lines, body.currency, body.amount_minor, CUSTOMER, CLEARING)
        _add(open_, body, CLEARING, body.amount_minor)
    else:
        _step(lines, body.currency, body.amount_minor, CUSTOMER, HOLDS)


def _captured(open_: OpenAmounts, body: pb.Captured, lines: list[Line]) -> None:
    sold = _take(open_, body, CLEARING, body.amount_minor)
    _step(lines, body.currency, sold, CLEARING, MERCHANT)
    _step(lines, body.currency, body.amount_minor - sold, HOLDS, CLEARING, MERCHANT)
    _step(lines, body.currency, body.released_minor, HOLDS, CUSTOMER)


def _released(open_: OpenAmounts, body: pb.Voided | pb.HoldLapsed, lines: list[Line]) -> None:
    unexpected = _take(open_, body, SUSPENSE, body.amount_minor)
    _step(lines, body.currency, unexpected, SUSPENSE, CUSTOMER)
    _step(lines, body.currency, body.amount_minor - unexpected, HOLDS, CUSTOMER)


def _suspense_recorded(open_: OpenAmounts, body: pb.SuspenseRecorded, lines: list[Line]) -> None:
    _step(lines, body.currency, body.amount_minor, CUSTOMER, SUSPENSE)
    _add(open_, body, SUSPENSE, body.amount_minor)


def _refunded(open_: OpenAmounts, body: pb.Refunded, lines: list[Line]) -> None:
    left = body.amount_minor
    if not body.refund:
        for account in (SUSPENSE, CLEARING):
            taken = _take(open_, body, account, left)
            _step(lines, body.currency, taken, account, REFUNDS, CUSTOMER)
            left -= taken
    _step(lines, body.currency, left, MERCHANT, REFUNDS, CUSTOMER)


_RULES: dict[str, tuple[str, Callable[[OpenAmounts, Any, list[Line]], None]]] = {
    "hold_authorised": ("HoldAuthorised", _hold_authorised),
    "captured": ("Captured", _captured),
    "voided": ("Voided", _released),
    "hold_lapsed": ("HoldLapsed", _released),
    "suspense_recorded": ("SuspenseRecorded", _suspense_recorded),
    "refunded": ("Refunded", _refunded),
}
