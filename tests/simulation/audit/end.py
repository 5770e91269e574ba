"""Checks after the end of a history: every order has a final status, all money is accounted for, and the provider's
books equal ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.simulation.audit.auditor import Auditor
from tests.simulation.audit.group_payments import GroupPaymentsAudit, Hold
from tests.simulation.audit.groups import GroupAudit
from tests.simulation.audit.violation import Violation
from tests.simulation.world.provider import Account

ENDS = frozenset({"REFUSED", "CANCELLED", "LAPSED", "HOLD_DECLINED", "RELEASED", "SETTLED", "CAPTURE_DECLINED"})


def check_end(auditor: Auditor, accounts: Iterable[Account]) -> None:
    """Raises Violation."""
    for key, order in sorted(auditor.acknowledged):
        status = auditor.group(key).order(order).status
        if status not in ENDS and not auditor.group(key).order(order).forged:
            raise Violation("every order ends", key, f"{order} stays {status or 'unanswered'}")
    for group in auditor.groups.values():
        _group(group)
    for refund, (key, order) in auditor.refunds_requested.items():
        if refund not in auditor.group_payments[key].refunds_decided:
            raise Violation("every refund is decided", key, f"{refund} of {order}")
    holds: dict[str, tuple[str, Hold]] = {}
    charged: Counter[str] = Counter()
    for payments in auditor.group_payments.values():
        _check_payments(payments, charged)
        for order, payment in payments.payments.items():
            if not payments.group.order(order).forged:
                holds.update({reference: (payments.key, hold) for reference, hold in payment.holds.items()})
    # The group may not request the return of an order with forged events, so its hold is not checked.
    known = [one for one in accounts if not auditor.group(one.group).order(one.order).forged]
    _books(holds, known)


def _group(group: GroupAudit) -> None:
    if group.phase == "FORMING":
        raise Violation("every group ends", group.key, "the group stays forming")
    for name, order in group.orders.items():
        if order.release_requested and not order.released:
            raise Violation("every release ends", group.key, f"the release of {name} was requested and not reported")
    forged = any(group.orders[name].forged for name in group.completed)
    if group.phase == "COMPLETED" and not group.settled and not forged:
        raise Violation("every group ends", group.key, "the group completed and did not settle")


def _check_payments(payments: GroupPaymentsAudit, charged: Counter[str]) -> None:
    for order, payment in payments.payments.items():
        seat = payments.group.order(order)
        if seat.forged:
            continue
        kept = 0
        for reference, hold in payment.holds.items():
            if hold.open or hold.suspense:
                raise Violation("every hold ends", payments.key, f"{order}: {hold.open} of {reference} stays held")
            if hold.booked != hold.captured + hold.released:
                raise Violation("debits = credits", payments.key, f"{order}: {reference} does not add up")
            kept += hold.captured - hold.refunded
        paid = seat.settled_amount if seat.status == "SETTLED" else 0
        if kept - (paid - payment.spent) not in payments.owed(order):
            raise Violation(
                "debits = credits", payments.key, f"{order}: {kept} kept, {paid} charged, {payment.spent} refunded"
            )


def _books(holds: dict[str, tuple[str, Hold]], accounts: list[Account]) -> None:
    for account in accounts:
        key, ours = holds.pop(account.reference, (account.group, Hold()))
        # A hold that was released before its result came is not in our books.
        whole = ours.booked > 0 and not ours.unexpected
        theirs = (account.open, account.captured, account.refunded, account.released if whole else 0)
        mine = (ours.open, ours.captured, ours.refunded, ours.released if whole else 0)
        if account.captures > 1:
            raise Violation("one capture a hold", key, f"{account.order}: {account.reference} captured twice")
        if theirs != mine:
            raise Violation(
                "our books = the provider's", key, f"{account.order} {account.reference}: {theirs} theirs, {mine} mine"
            )
    for reference, (key, hold) in holds.items():
        if hold.booked:
            raise Violation("our books = the provider's", key, f"the provider does not know {reference}")
