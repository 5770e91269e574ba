"""What the provider and its users do by themselves, one function each.

Each first changes the provider's accounts, so its reports are true. All are reports of version 2 of the payment rules:
groups whose payments have version 1 are left alone. The service's state is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import (
    DISPUTE_STATE_LOST,
    DISPUTE_STATE_OPEN,
    DISPUTE_STATE_WON,
    OUTCOME_ORIGIN_NOTIFICATION,
    ProviderOutcome,
)

from services.payments.domain.output.provider_calls import idempotency_key
from tests.simulation.world import operators
from tests.simulation.world.late_refunds import is_booked, report_late_success
from tests.simulation.world.provider import Account
from tests.simulation.world.world import World

HOUR_MS = 3_600_000


def _accounts(world: World, wanted: Callable[[Account], bool]) -> list[Account]:
    """Accounts of groups under version 2, whose money the log knows."""
    return [one for one in world.provider.accounts.values() if wanted(one) and is_booked(world, one)]


def _is_merchants(world: World, account: Account) -> bool:
    """Whether the refundable money was not returned by other means, and is not kept by an operator."""
    case = world.auditor.case(account.group)
    payment = case.group_payments.payments.get(account.order) if case is not None else None
    hold = payment.holds.get(account.reference) if payment is not None else None
    return hold is not None and hold.merchants - hold.charge_refunds >= account.refundable


def _news(account: Account, **fields: Any) -> ProviderOutcome:
    return ProviderOutcome(
        # News often name the hold alone.
        order=account.order if len(account.reference) % 2 else "",
        origin=OUTCOME_ORIGIN_NOTIFICATION,
        payment_method=account.made_by.payment_method,
        **fields,
    )


def _tell(world: World, account: Account, news: ProviderOutcome, pick: int) -> None:
    """Reports news, sometimes late and sometimes twice."""
    for delay_ms in ((0,), (0, 5_000), (90_000,))[pick // 16 % 3]:
        world.after(delay_ms, lambda: world.report(account.group, news))


# Refunds that come back ---------------------------------------------------------------------------------------------


def _reverse(world: World, pick: int) -> None:
    """A refund that succeeded comes back."""
    found = _reversible(world, _accounts(world, lambda one: one.refunded > 0))
    if found:
        _come_back(world, *found[pick % len(found)], pick)


def _reversible(world: World, accounts: Iterable[Account]) -> list[tuple[Account, ProviderOutcome]]:
    """Refunds of accounts that succeeded and did not come back yet."""
    known = {one.reference: one for one in accounts}
    return [
        (known[outcome.refunded.hold], outcome)
        for outcome in world.provider.results.values()
        if outcome.HasField("refunded")
        and outcome.refunded.hold in known
        and 0 < outcome.refunded.amount_minor <= known[outcome.refunded.hold].refunded
        and idempotency_key(_call_of(outcome)) not in world.reversed
    ]


def _come_back(world: World, account: Account, outcome: ProviderOutcome, pick: int) -> None:
    world.coverage.count("fault", "refund reversed")
    world.reversed.add(idempotency_key(_call_of(outcome)))
    account.refunded -= outcome.refunded.amount_minor
    news = ProviderOutcome(order=outcome.order, operation=outcome.operation, attempt=outcome.attempt)
    news.origin = OUTCOME_ORIGIN_NOTIFICATION
    if pick & 0x100000 and _is_paid(world, account, outcome):
        # Some providers report it so: the refund has failed.
        world.coverage.count("fault", "paid refund declined")
        news.declined.reason = "the bank returned it"
        _tell(world, account, news, pick)
        return
    news.refund_reversed.hold = account.reference
    news.refund_reversed.amount_minor = outcome.refunded.amount_minor
    news.refund_reversed.reason = "the bank returned it"
    _tell(world, account, news, pick)


def _is_paid(world: World, account: Account, outcome: ProviderOutcome) -> bool:
    """Whether payments know of the success of a refund, which was not declined before."""
    payments = world.payments_of(account.group)
    record = payments.orders.get(outcome.order) if payments is not None else None
    paid = (record.paid or {}).get(outcome.attempt) if record is not None else None
    return paid is not None and not paid.after_decline


def _call_of(outcome: ProviderOutcome) -> ProviderCall:
    return ProviderCall(order=outcome.order, operation=outcome.operation, attempt=outcome.attempt)


def _succeed_late(world: World, pick: int) -> None:
    """The next return that is refused succeeds after all."""

    def succeed(call: ProviderCall, group: str) -> bool:
        known = world.provider.results.get(idempotency_key(call))
        refused = known is not None and known.HasField("declined") and call.operation == pb.OPERATION_REFUND
        if refused and not call.refund:
            # Before the next attempt, or after it: then the money went back twice.
            delay_ms = 1 + pick % (30_000_000 if pick & 1 else 200_000)
            world.after(delay_ms, lambda: report_late_success(world, call, group))
            return True
        return False

    world.waiting.append(succeed)


def _late_sale(world: World, pick: int) -> None:
    """A shopper pays a prepayment after it was closed."""

    def closes(call: ProviderCall, group: str) -> bool:
        account = world.provider.accounts.get(call.hold)
        if call.operation != pb.OPERATION_VOID or account is None or account.made_by.operation != pb.OPERATION_SALE:
            return False
        if account.held or account.pending:
            return False
        world.after(200_000 + pick % 200_000, lambda: _pay_late(world, account, pick))
        return True

    world.waiting.append(closes)


def _pay_late(world: World, account: Account, pick: int) -> None:
    case = world.auditor.case(account.group)
    payment = case.group_payments.payments.get(account.order) if case is not None else None
    closed = payment is not None and not payment.pending and not (account.held or account.pending)
    if case is not None and case.group_payments.rules_version > 1 and closed:
        world.coverage.count("fault", "sale after its close")
        news = ProviderOutcome()
        news.CopyFrom(world.provider.paid(account.made_by, account))
        news.origin = OUTCOME_ORIGIN_NOTIFICATION
        _tell(world, account, news, pick)


# Disputes -----------------------------------------------------------------------------------------------------------


def _dispute(world: World, pick: int) -> None:
    """The customer disputes a charge: perhaps first a warning, then the dispute, its date, and its end."""
    found = _accounts(world, lambda one: one.refundable > 0 and _is_merchants(world, one))
    if not found:
        return
    account = found[pick % len(found)]
    world.coverage.count("fault", "dispute")
    if pick & 1:
        warning = _news(account)
        warning.fraud_warning.hold = account.reference
        warning.fraud_warning.warning = f"efw {account.reference}"
        warning.fraud_warning.reason = "fraudulent card"
        _tell(world, account, warning, pick)
    amount = max(account.refundable // 3, 1) if pick & 8 else account.refundable
    withdrawn = 0 if pick & 2 else amount
    account.disputed += withdrawn
    account.fees += 15 if withdrawn else 0
    name = f"dp {account.reference} {pick}"
    _tell(world, account, _dispute_news(account, name, amount, withdrawn, 0), pick)
    later = _dispute_news(account, name, amount, withdrawn, world.broker.now_ms + 7 * 24 * HOUR_MS)
    world.after(1_800_000, lambda: world.report(account.group, later))

    def end() -> None:
        news = _dispute_news(account, name, amount, withdrawn, 0)
        won = bool(pick & 4)
        news.dispute.state = DISPUTE_STATE_WON if won else DISPUTE_STATE_LOST
        if won:
            account.disputed -= withdrawn
        _tell(world, account, news, pick)
        if not won and withdrawn and pick & 16:
            world.after(HOUR_MS, reverse)

    def reverse() -> None:
        """Beside the money that the dispute took, a refund comes back."""
        for known, outcome in _reversible(world, _accounts(world, lambda one: one is account))[:1]:
            _come_back(world, known, outcome, pick)

    world.after((2 + pick % 30) * HOUR_MS, end)


def _dispute_news(account: Account, name: str, amount: int, withdrawn: int, due_ms: int) -> ProviderOutcome:
    news = _news(account)
    body = news.dispute
    body.hold = account.reference
    body.dispute = name
    body.state = DISPUTE_STATE_OPEN
    body.amount_minor = amount
    body.withdrawn_minor = withdrawn
    body.fee_minor = 15 if withdrawn else 0
    body.reason = "product not received"
    body.evidence_due_ms = due_ms
    return news


# Persons at the provider --------------------------------------------------------------------------------------------


def _refund_by_hand(world: World, pick: int) -> None:
    found = _accounts(world, lambda one: one.refundable > 0 and _is_merchants(world, one))
    if found:
        account = found[pick % len(found)]
        amount = account.refundable if pick & 1 else max(account.refundable // 3, 1)
        world.coverage.count("fault", "refunded by hand")
        account.refunded += amount
        _by_hand(world, account, pb.OPERATION_REFUND, amount, pick)
        if pick & 2 and amount:
            world.after(HOUR_MS, lambda: _fail_by_hand(world, account, amount, pick))


def _fail_by_hand(world: World, account: Account, amount: int, pick: int) -> None:
    if account.refunded < amount:
        return
    world.coverage.count("fault", "refund by hand reversed")
    account.refunded -= amount
    news = _news(account)
    news.refund_reversed.hold = account.reference
    news.refund_reversed.amount_minor = amount
    news.refund_reversed.reference = f"by hand {account.reference} {pick}"
    world.report(account.group, news)


def _end_hold_by_hand(world: World, pick: int) -> None:
    found = _accounts(world, lambda one: one.open > 0)
    if not found:
        return
    account, amount = found[pick % len(found)], 0
    operation = pb.OPERATION_CAPTURE if pick & 1 else pb.OPERATION_VOID
    world.coverage.count("fault", "captured by hand" if pick & 1 else "voided by hand")
    if pick & 1:
        amount = account.open
        world.provider.take(account, amount)
    else:
        account.release_open()
    _by_hand(world, account, operation, amount, pick)


def _by_hand(world: World, account: Account, operation: pb.Operation.ValueType, amount: int, pick: int) -> None:
    news = _news(account)
    body = news.external
    body.hold = account.reference
    body.operation = operation
    body.amount_minor = amount
    body.currency = account.currency
    body.reference = f"by hand {account.reference} {pick}"
    _tell(world, account, news, pick)


def _fee(world: World, pick: int) -> None:
    found = _accounts(world, lambda one: one.captured > 0)
    if not found:
        return
    account = found[pick % len(found)]
    world.coverage.count("fault", "fee and payout")
    if account.reference in world.charged_fees:
        return
    world.charged_fees.add(account.reference)
    account.fees += 3
    fee, paid = _news(account), _news(account)
    fee.fee.hold = paid.paid_out.hold = account.reference
    fee.fee.reference = paid.paid_out.reference = f"txn {account.reference}"
    fee.fee.amount_minor, paid.paid_out.amount_minor = 3, account.captured - 3
    fee.fee.kind, paid.paid_out.payout = "processing", "po"
    _tell(world, account, fee, pick)
    _tell(world, account, paid, pick)


def _stuck(world: World, pick: int) -> None:
    """The next call of a kind fails until all faults end, so that it is given up."""

    def stick(call: ProviderCall, group: str) -> bool:
        wanted = (pb.OPERATION_CAPTURE, pb.OPERATION_VOID, pb.OPERATION_REFUND)[pick % 3]
        case = world.auditor.case(group)
        if call.operation != wanted or case is None or case.group_payments.rules_version < 2:
            return False
        world.provider.stuck.add(idempotency_key(call))
        return True

    world.waiting.append(stick)


PROVIDER_LIFE: dict[str, Callable[[World, int], None]] = {
    "refund_reversed": _reverse,
    "succeeds_late": _succeed_late,
    "late_sale": _late_sale,
    "dispute": _dispute,
    "refund_by_hand": _refund_by_hand,
    "end_hold_by_hand": _end_hold_by_hand,
    "fee": _fee,
    "stuck": _stuck,
    "operator": operators.act,
    "attend": operators.attend,
}
