"""Posting rules: from which account to which account each payment event moves money.

| event | from | to |
|-|-|-|
| HoldAuthorised | customer | holds; clearing, if taken by a sale |
| Captured | holds (nothing, if it was a sale) | clearing, and on to merchant; the rest of the hold to customer |
| Voided, HoldLapsed | holds; suspense, for unexpected funds | customer |
| SuspenseRecorded | customer | suspense |
| Refunded, by command | merchant | refunds, and on to customer |
| Refunded, without a command | where the hold's money is: suspense, clearing, merchant | refunds, and on to customer |
| Refunded, of a sum that is owed | owed | refunds, and on to customer |
| ExternalOperationRecorded, a refund | where the hold's money is | refunds, and on to customer |
| MoneyOwed, by which the sum grew | where the hold's money is | owed |
| MoneyOwed, by which the sum fell | owed | merchant |
| RefundReversed | customer | refunds, and on to merchant |
| ReturnedOutside | outside; owed | customer; merchant |
| DisputeOpened | merchant | disputes: the withdrawn amount; fees: the fee |
| DisputeWon, DisputeLost | disputes | merchant; customer |
| SuspenseKept | suspense | merchant |
| FeeCharged, PaidOut | merchant | fees; payouts |
| LedgerAdjusted | the account that the operators named | the account that they named |

Most depend on more than the event: on a hold's money in clearing, in suspense or owed, and on a dispute's amounts.
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
    OWED = 7
    DISPUTES = 8
    FEES = 9
    PAYOUTS = 10
    ADJUSTMENTS = 11
    OUTSIDE = 12


CUSTOMER, HOLDS, CLEARING = Account.CUSTOMER, Account.HOLDS, Account.CLEARING
MERCHANT, REFUNDS, SUSPENSE = Account.MERCHANT, Account.REFUNDS, Account.SUSPENSE
OWED, DISPUTES, FEES = Account.OWED, Account.DISPUTES, Account.FEES
PAYOUTS, OUTSIDE = Account.PAYOUTS, Account.OUTSIDE

#: Money in clearing or suspense, by order, hold, currency and account; owed, by order, hold and refund; and the amounts
#: of disputes, by order and dispute.
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
    owed = _take_owed(open_, body, body.amount_minor)
    _step(lines, body.currency, owed, OWED, REFUNDS, CUSTOMER)
    left = body.amount_minor - owed
    if not body.refund:
        left -= _from_hold(open_, body, lines, left, REFUNDS, CUSTOMER)
    _step(lines, body.currency, left, MERCHANT, REFUNDS, CUSTOMER)


def _from_hold(open_: OpenAmounts, body: Any, lines: list[Line], limit: int, *targets: Account) -> int:
    """Moves at most `limit` of a hold's money in suspense or clearing; returns the amount."""
    moved = 0
    for account in (SUSPENSE, CLEARING):
        taken = _take(open_, body, account, limit - moved)
        _step(lines, body.currency, taken, account, *targets)
        moved += taken
    return moved


# What a provider does by itself, and operators -----------------------------------------------------------------------


def _owed_name(body: Any) -> tuple[str, str, str, int]:
    return (body.order, f"{body.hold} {body.refund}", body.currency, int(OWED))


def _take_owed(open_: OpenAmounts, body: Any, limit: int) -> int:
    name = _owed_name(body)
    taken = min(open_.get(name, 0), limit)
    _set(open_, name, open_.get(name, 0) - taken)
    return taken


def _set(open_: OpenAmounts, name: tuple[str, str, str, int], amount: int) -> int:
    """Sets an open amount; returns by how much it grew."""
    before = open_.get(name, 0)
    if amount:
        open_[name] = amount
    else:
        open_.pop(name, None)
    return amount - before


def _money_owed(open_: OpenAmounts, body: pb.MoneyOwed, lines: list[Line]) -> None:
    grown = _set(open_, _owed_name(body), body.amount_minor)
    if grown > 0:
        left = grown - _from_hold(open_, body, lines, grown, OWED) if not body.refund else grown
        _step(lines, body.currency, left, MERCHANT, OWED)
    elif grown < 0:
        _step(lines, body.currency, -grown, OWED, MERCHANT)


def _refund_reversed(open_: OpenAmounts, body: pb.RefundReversed, lines: list[Line]) -> None:
    _step(lines, body.currency, body.amount_minor, CUSTOMER, REFUNDS, MERCHANT)


def _returned_outside(open_: OpenAmounts, body: pb.ReturnedOutside, lines: list[Line]) -> None:
    owed = _take_owed(open_, body, body.amount_minor)
    _step(lines, body.currency, body.amount_minor, OUTSIDE, CUSTOMER)
    _step(lines, body.currency, owed, OWED, MERCHANT)


def _external_operation(open_: OpenAmounts, body: pb.ExternalOperationRecorded, lines: list[Line]) -> None:
    if body.operation == pb.OPERATION_REFUND:
        left = body.amount_minor - _from_hold(open_, body, lines, body.amount_minor, REFUNDS, CUSTOMER)
        _step(lines, body.currency, left, MERCHANT, REFUNDS, CUSTOMER)


def _dispute_opened(open_: OpenAmounts, body: pb.DisputeOpened, lines: list[Line]) -> None:
    withdrawn = _set(open_, (body.order, body.dispute, body.currency, int(DISPUTES)), body.withdrawn_minor)
    _step(lines, body.currency, withdrawn, MERCHANT, DISPUTES)
    fee = _set(open_, (body.order, body.dispute, body.currency, int(FEES)), body.fee_minor)
    _step(lines, body.currency, fee, MERCHANT, FEES)


def _dispute_ended(target: Account) -> Callable[[OpenAmounts, Any, list[Line]], None]:
    def end(open_: OpenAmounts, body: Any, lines: list[Line]) -> None:
        for account in (DISPUTES, FEES):
            open_.pop((body.order, body.dispute, body.currency, int(account)), None)
        _step(lines, body.currency, body.amount_minor, DISPUTES, target)

    return end


def _suspense_kept(open_: OpenAmounts, body: pb.SuspenseKept, lines: list[Line]) -> None:
    _step(lines, body.currency, _take(open_, body, SUSPENSE, body.amount_minor), SUSPENSE, MERCHANT)


def _fee_charged(open_: OpenAmounts, body: pb.FeeCharged, lines: list[Line]) -> None:
    _step(lines, body.currency, body.amount_minor, MERCHANT, FEES)


def _paid_out(open_: OpenAmounts, body: pb.PaidOut, lines: list[Line]) -> None:
    _step(lines, body.currency, body.amount_minor, MERCHANT, PAYOUTS)


def _ledger_adjusted(open_: OpenAmounts, body: pb.LedgerAdjusted, lines: list[Line]) -> None:
    _step(lines, body.currency, body.amount_minor, Account(body.from_account), Account(body.to_account))


_RULES: dict[str, tuple[str, Callable[[OpenAmounts, Any, list[Line]], None]]] = {
    "hold_authorised": ("HoldAuthorised", _hold_authorised),
    "captured": ("Captured", _captured),
    "voided": ("Voided", _released),
    "hold_lapsed": ("HoldLapsed", _released),
    "suspense_recorded": ("SuspenseRecorded", _suspense_recorded),
    "refunded": ("Refunded", _refunded),
    "money_owed": ("MoneyOwed", _money_owed),
    "refund_reversed": ("RefundReversed", _refund_reversed),
    "returned_outside": ("ReturnedOutside", _returned_outside),
    "external_operation_recorded": ("ExternalOperationRecorded", _external_operation),
    "dispute_opened": ("DisputeOpened", _dispute_opened),
    "dispute_won": ("DisputeWon", _dispute_ended(MERCHANT)),
    "dispute_lost": ("DisputeLost", _dispute_ended(CUSTOMER)),
    "suspense_kept": ("SuspenseKept", _suspense_kept),
    "fee_charged": ("FeeCharged", _fee_charged),
    "paid_out": ("PaidOut", _paid_out),
    "ledger_adjusted": ("LedgerAdjusted", _ledger_adjusted),
}
