"""Checks after the end of a history: the audit of a settled system, with the provider's accounts as its statement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.audit.cases import Case
from ops.audit.findings import TITLES, Invariant
from ops.audit.money.holds import Hold
from tests.simulation.audit.auditor import Auditor
from tests.simulation.audit.violation import Violation
from tests.simulation.world.provider import Account


def check_end(auditor: Auditor, accounts: Iterable[Account]) -> None:
    """Raises Violation."""
    for key, case in auditor.audit.cases.items():
        for order in case.group_payments.payments:
            _check_owed(auditor, key, order, case)
    report = auditor.audit.report(settled=True, entries=list(_entries(auditor, accounts)))
    faulty = auditor.forged or auditor.declined_refunds
    for found in report.findings.violations:
        if found.invariant is Invariant.BALANCED and faulty:
            continue
        if not auditor.excuses(found.invariant, found.group, found.order):
            what = f"{found.order}: {found.what}" if found.order else found.what
            raise Violation(TITLES[found.invariant], found.group, what)


def _check_owed(auditor: Auditor, key: str, order: str, case: Case) -> None:
    if (key, order) in auditor.forged:
        return
    holds = case.group_payments.payments[order].holds.values()
    kept = sum(hold.merchants - hold.kept for hold in holds)
    fold = case.group_payments
    # Under version 2 every sum that is owed is in the log.
    owed = auditor.owed((key, order)) if fold.rules_version < 2 else {fold.payments[order].owed}
    if kept not in owed:
        raise Violation(TITLES[Invariant.HELD_IS_ACCOUNTED_FOR], key, f"{order}: {kept} is kept and not charged")


def _entries(auditor: Auditor, accounts: Iterable[Account]) -> Iterator[StatementEntry]:
    for account in accounts:
        if (account.group, account.order) in auditor.forged:
            # The group may not request the return of this order, so its hold is not compared.
            continue
        ours = _ours(auditor, account)
        if ours is None and not (account.open or account.captured):
            # A hold that was released before its result came is not in our books.
            continue
        yield StatementEntry(
            hold=account.reference,
            order=account.order,
            group=account.group,
            currency=account.currency,
            authorised_minor=account.held,
            captured_minor=account.captured,
            released_minor=account.released,
            refunded_minor=account.refunded,
            open_minor=account.open,
            captures=account.captures,
            disputed_minor=account.disputed,
            fees_minor=account.fees,
        )


def _ours(auditor: Auditor, account: Account) -> Hold | None:
    case = auditor.case(account.group)
    payment = case.group_payments.payments.get(account.order) if case is not None else None
    return payment.holds.get(account.reference) if payment is not None else None
