"""The unfinished parts of a group's payments that may need an operator: a total function of the state.

Amounts are in minor units, times in milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.ledger_pb2 import LedgerAccount

from services.payments.domain.state.model import Call, GroupPayments, Payment, Record
from services.payments.domain.state.provider_life import NEVER_MS, DisputeStatus


class IssueKind(IntEnum):
    """Kind of an issue, numbered as in operator.proto."""

    OWED = 1
    CALL = 2
    SUSPENSE = 3
    DISPUTE = 4
    ADJUSTMENT = 5
    RETURNED_TWICE = 6


class Issue(NamedTuple):
    """Something about one payment that is not finished. Tuples sort in the order of the list."""

    order: str
    kind: IssueKind
    #: The provider's reference of the hold.
    hold: str
    #: Of a call: an Operation by its number, and the attempt; else 0.
    operation: int
    attempt: int
    #: Id of the refund, of the dispute, or of the proposed adjustment.
    reference: str
    amount: int
    currency: str
    reason: str
    #: Nothing follows by itself: an operator has to act.
    alarm: bool
    #: When the next step follows by itself; 0: none does.
    next_ms: int


def issues_of(payments: GroupPayments) -> list[Issue]:
    """All issues of a group, sorted."""
    return sorted(_all(payments))


def has_issue(payments: GroupPayments) -> bool:
    """Whether a group has an issue."""
    return next(_all(payments), None) is not None


def _all(payments: GroupPayments) -> Iterator[Issue]:
    for order, record in payments.orders.items():
        if isinstance(record, Payment):
            yield from _of_payment(order, record)
        elif record.owed:
            yield _owed_for_good(order, record, record.hold, record.owed)
        if record.disputes:
            yield from _disputes(order, record)
        if record.returned_twice:
            yield from _returned_twice(order, record)
    for proposal, one in payments.adjustments.items():
        reason = f"{one.operator} proposes to move it from {_account(one.from_account)} to {_account(one.to_account)}"
        yield Issue(
            one.order, IssueKind.ADJUSTMENT, one.hold, 0, 0, proposal, one.amount, one.currency, reason, True, 0
        )


def _account(number: int) -> str:
    """`clearing` for LEDGER_ACCOUNT_CLEARING; the number of an account that this build does not know."""
    known = LedgerAccount.DESCRIPTOR.values_by_number.get(number)
    if known is None:
        return f"account {number}"
    return str(known.name).removeprefix("LEDGER_ACCOUNT_").lower().replace("_", " ")


def _of_payment(order: str, payment: Payment) -> Iterator[Issue]:
    for debt in payment.debts.values():
        pending = payment.pending_refund(debt.hold, debt.refund) is not None
        alarm = debt.alarm or not (debt.next_ms or pending)
        yield Issue(
            order,
            IssueKind.OWED,
            debt.hold,
            0,
            0,
            debt.refund,
            debt.amount,
            debt.currency,
            debt.reason,
            alarm,
            debt.next_ms,
        )
    if not payment.debts:
        for name, hold in payment.holds.items():
            if hold.owed:
                yield _owed_for_good(order, payment, name, hold.owed)
    for call in payment.calls.values():
        if call.retry_at_ms:
            yield _call(order, payment, call)
    for name, hold in payment.holds.items():
        if hold.suspense:
            taken = "taken" if hold.suspense_taken else "held"
            reason = f"unexpected funds are {taken} and wait for their return"
            yield Issue(
                order,
                IssueKind.SUSPENSE,
                name,
                0,
                0,
                "",
                hold.suspense,
                hold.currency,
                reason,
                not hold.return_at_ms,
                hold.return_at_ms,
            )


def _returned_twice(order: str, record: Record) -> Iterator[Issue]:
    reason = "the refund succeeded though the customer had the money already: adjust the ledger, or get it back"
    for name, amount in (record.returned_twice or {}).items():
        hold, _, refund = name.partition(" ")
        yield Issue(order, IssueKind.RETURNED_TWICE, hold, 0, 0, refund, amount, record.currency, reason, True, 0)


def _owed_for_good(order: str, record: Record, hold: str, amount: int) -> Issue:
    """Money owed under rules version 1, which does not pursue it."""
    reason = "the provider declined the refund"
    return Issue(order, IssueKind.OWED, hold, 0, 0, "", amount, record.currency, reason, True, 0)


def _call(order: str, payment: Payment, call: Call) -> Issue:
    known = payment.holds.get(call.hold)
    currency = known.currency if known is not None else payment.currency
    given_up = call.retry_at_ms == NEVER_MS
    operation = pb.Operation.Name(call.operation).removeprefix("OPERATION_").lower()
    state = "is not retried any more" if given_up else "waits for its retry"
    reason = f"{operation} {call.attempt} has no result after {call.deferrals} deferrals and {state}"
    return Issue(
        order,
        IssueKind.CALL,
        call.hold,
        call.operation,
        call.attempt,
        call.refund,
        call.amount,
        currency,
        reason,
        given_up,
        0 if given_up else call.retry_at_ms,
    )


def _disputes(order: str, record: Record) -> Iterator[Issue]:
    for name, one in (record.disputes or {}).items():
        if one.status is not DisputeStatus.OPEN:
            continue
        withdrawn = f"the provider withdrew {one.withdrawn_amount}" if one.withdrawn_amount else "an inquiry"
        reason = f"the customer disputes the charge; {withdrawn}"
        # Evidence is submitted at the provider: nobody does it by itself.
        alarm = bool(one.evidence_due_ms)
        yield Issue(
            order, IssueKind.DISPUTE, one.hold, 0, 0, name, one.amount, one.currency, reason, alarm, one.evidence_due_ms
        )
