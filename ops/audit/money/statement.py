"""Compares the provider's statement with the payment log, hold by hold and in minor units.

Differences are not netted: two errors that cancel out are two violations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.audit.cases import Case
from ops.audit.findings import Findings, Invariant
from ops.audit.money.holds import Hold, Payment
from ops.statements.payouts import Payouts, compare_payouts
from shared_kernel.payment_providers import provider_of


@dataclass(slots=True)
class Totals:
    """Sums of one currency, in minor units."""

    held: int = 0
    captured: int = 0
    released: int = 0
    refunded: int = 0
    open: int = 0

    def add(self, held: int, captured: int, released: int, refunded: int) -> None:
        """Adds the amounts of one hold."""
        self.held += held
        self.captured += captured
        self.released += released
        self.refunded += refunded
        self.open += held - captured - released


def holds_of(cases: Iterable[Case]) -> Iterator[tuple[Case, Payment, str, Hold]]:
    """Every hold in the payment log: its case, its payment, the provider's reference and the hold."""
    for case in cases:
        for payment in case.group_payments.payments.values():
            for reference, hold in payment.holds.items():
                yield case, payment, reference, hold


@dataclass(frozen=True, slots=True)
class Coverage:
    """The amounts that a statement lists."""

    #: Its provider; empty: of all of them.
    provider: str = ""
    #: It lists money that moved and no holds: held and released amounts are not known.
    money_only: bool = False

    def expects(self, payment: Payment, hold: Hold) -> bool:
        """Whether the statement has to list a hold."""
        if self.provider and payment.method and provider_of(payment.method) != self.provider:
            return False
        return bool(hold.captured) or not self.money_only


EVERYTHING = Coverage()


def compare(
    cases: Iterable[Case],
    entries: Iterable[StatementEntry],
    settled: bool,
    findings: Findings,
    coverage: Coverage = EVERYTHING,
) -> None:
    """Adds each difference to the findings.

    The statement must be newer than the log. Unless everything is `settled`, it may be ahead of the log.
    """
    theirs = {entry.hold: entry for entry in entries}
    for case, payment, reference, hold in holds_of(cases):
        entry = theirs.pop(reference, None)
        if entry is None:
            if coverage.expects(payment, hold):
                findings.breach(
                    Invariant.BOOKS_EQUAL, case.key, hold.order, f"hold {reference} is not in the provider's statement"
                )
            continue
        if entry.captures > 1:
            findings.breach(
                Invariant.ONE_CAPTURE,
                case.key,
                hold.order,
                f"the provider captured hold {reference} {entry.captures} times",
            )
        over = hold.open == 0 and not payment.pending
        if settled or over:
            _compare_hold(case.key, reference, hold, entry, settled, findings, coverage)
    for entry in theirs.values():
        if not (entry.authorised_minor or entry.captured_minor):
            continue  # The shopper never confirmed it: no money moved.
        what = f"hold {entry.hold} of {entry.authorised_minor} {entry.currency} is in the statement, not in the log"
        if settled:
            findings.breach(Invariant.BOOKS_EQUAL, entry.group, entry.order, what)
        else:
            findings.add_pending(f"group {entry.group} order {entry.order}: {what}")


def check_payouts(cases: Iterable[Case], theirs: Payouts, settled: bool, findings: Findings) -> None:
    """Adds each difference of the payouts to the findings. Unless everything is `settled`, the log may be behind."""
    ours: dict[tuple[str, str], int] = {}
    for case in cases:
        for payment in case.group_payments.payments.values():
            for name, amount in payment.payouts.items():
                ours[name] = ours.get(name, 0) + amount
    for one in compare_payouts(ours, theirs):
        if one.equal:
            continue
        if not settled and one.theirs is not None and one.theirs > (one.ours or 0):
            findings.add_pending(one.what)
        else:
            findings.breach(Invariant.BOOKS_EQUAL, "", "", one.what)


def _compare_hold(
    group: str,
    reference: str,
    hold: Hold,
    entry: StatementEntry,
    settled: bool,
    findings: Findings,
    coverage: Coverage,
) -> None:
    pairs = [("captured", entry.captured_minor, hold.captured)]
    if not coverage.money_only:
        pairs.insert(0, ("authorised", entry.authorised_minor, hold.held))
        pairs.append(("released", entry.released_minor, hold.released))
    if settled or entry.refunded_minor < hold.refunded:
        pairs.append(("refunded", entry.refunded_minor, hold.refunded))
    if settled or entry.disputed_minor < hold.disputed + hold.lost:
        pairs.append(("disputed", entry.disputed_minor, hold.disputed + hold.lost))
    if hold.fees_reported:
        # Fees are in the log only if the provider reports them.
        pairs.append(("fees", entry.fees_minor, hold.fees))
    differences = [f"{what} {their} in the statement, {our} in the log" for what, their, our in pairs if their != our]
    # A report of money may have no ids of ours.
    known = bool(entry.order and entry.group) or not coverage.money_only
    whose = (entry.currency, entry.order, entry.group) if known else (entry.currency, hold.order, group)
    if whose != (hold.currency, hold.order, group):
        differences.append(
            f"{entry.currency} of groups/{entry.group}/orders/{entry.order} in the statement, "
            f"{hold.currency} of groups/{group}/orders/{hold.order} in the log"
        )
    if differences:
        findings.breach(Invariant.BOOKS_EQUAL, group, hold.order, f"hold {reference}: {'; '.join(differences)}")
