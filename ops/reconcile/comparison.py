"""Our ledger against a provider's statement, hold by hold: the differences, and the way out of each.

Pure. Amounts are compared in minor units, without rounding or netting: two errors that cancel out are two errors. A
difference with a pending call is no error yet; the result of the call may resolve it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.reconcile.claims import of_known, of_unknown, provider_name
from ops.statements.payouts import Payouts, compare_payouts
from services.payments.domain.addressing import Address, address_of_hold, earlier_addresses
from services.payments.domain.state.model import GroupPayments
from services.payments.ledger.journal import Entry
from services.payments.ledger.posting_rules import Account
from shared_kernel.payment_providers import provider_of

WAIT = "wait: a call about it is pending"
MOVING = "repeat: the difference changed a moment ago"
BY_HAND = "by hand: "


class Kind(StrEnum):
    """The result of comparing one hold."""

    MATCHED = "matched"
    OURS_ONLY = "ours only"
    THEIRS_ONLY = "theirs only"
    DIFFERS = "amount differs"


@dataclass(slots=True)
class OurHold:
    """One hold in our ledger. Amounts are in minor units."""

    group: str
    order: str
    hold: str
    currency: str
    authorised: int = 0
    captured: int = 0
    released: int = 0
    refunded: int = 0
    #: Whether no order requested it.
    unexpected: bool = False

    @property
    def open(self) -> int:
        """The amount that is still held."""
        return self.authorised - self.captured - self.released


@dataclass(frozen=True, slots=True)
class Line:
    """The comparison of one hold."""

    kind: Kind
    group: str
    order: str
    hold: str
    #: The difference; empty if there is none.
    what: str = ""
    #: The way out; empty if there is nothing to do.
    action: str = ""
    #: Whether a pending call may resolve the difference.
    pending: bool = False
    #: The claim that resolves the difference; None if an operator has to.
    claim: ProviderOutcome | None = None

    def unconfirmed(self) -> Line:
        """The same line as pending: the difference was another one, or none, a moment ago."""
        if self.kind is Kind.MATCHED:
            return self
        return replace(self, pending=True, action=self.action and MOVING, claim=None)


@dataclass(slots=True)
class Books:
    """Our side: the holds by the provider's reference, summed from the ledger's entries."""

    holds: dict[str, OurHold] = field(default_factory=dict)

    def take(self, entries: Iterable[Entry]) -> None:
        """Takes entries of the ledger, in order."""
        for entry in entries:
            if entry.postings:
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        debited: dict[Account, int] = {}
        credited: dict[Account, int] = {}
        for account, _, amount in entry.postings:
            side = debited if amount > 0 else credited
            side[account] = side.get(account, 0) + abs(amount)
        hold = self.holds.get(entry.hold)
        known = hold is not None
        if hold is None:
            hold = self.holds[entry.hold] = OurHold(entry.group, entry.order, entry.hold, entry.postings[0].currency)
        match entry.event:
            case "HoldAuthorised":
                hold.authorised += credited[Account.CUSTOMER]
                hold.captured += debited.get(Account.CLEARING, 0)
            case "Captured":
                # A sale's money was captured before; a posting out of clearing only changes its owner.
                hold.captured += debited.get(Account.CLEARING, 0)
                hold.released += debited.get(Account.CUSTOMER, 0)
            case "SuspenseRecorded" if known:
                # Captured after the release, or more than requested.
                hold.captured += debited[Account.SUSPENSE]
                hold.released -= debited[Account.SUSPENSE]
            case "SuspenseRecorded":
                hold.authorised, hold.unexpected = debited[Account.SUSPENSE], True
            case "Refunded":
                hold.refunded += debited[Account.REFUNDS]
                if hold.unexpected:
                    # Its refund shows that it had been captured, and not only held.
                    hold.captured += credited.get(Account.SUSPENSE, 0)
            case _:
                hold.released += debited.get(Account.CUSTOMER, 0)


def compare(
    ours: Books,
    payments: Mapping[str, GroupPayments],
    statement: Iterable[StatementEntry],
    *,
    provider: str = "",
    money_only: bool = False,
) -> list[Line]:
    """Compares every hold of either side. Omits holds without money.

    `provider` is the only one whose payments the statement lists; empty: of all. With `money_only` it lists money that
    moved, and no holds.
    """
    lines: list[Line] = []
    left = dict(ours.holds)
    for theirs in statement:
        if not (theirs.authorised_minor or theirs.captured_minor):
            continue
        known = left.pop(theirs.hold, None)
        group, order = (known.group, known.order) if known is not None else (theirs.group, theirs.order)
        pending = _pending(payments, group, order)
        if known is None:
            lines.append(_theirs_only(theirs, pending))
        else:
            lines.append(_compared(known, theirs, pending, money_only=money_only))
    for known in left.values():
        if money_only and not known.captured:
            continue
        if provider and provider_of(_method(payments, known.group, known.order)) not in (provider, ""):
            continue
        lines.append(_ours_only(known, _pending(payments, known.group, known.order)))
    return lines


def payout_lines(ours: Payouts, theirs: Payouts) -> list[Line]:
    """The payouts of the log against those of the statement. Omits those that are equal."""
    lines = []
    for one in compare_payouts(ours, theirs):
        if one.equal:
            continue
        kind = Kind.THEIRS_ONLY if one.ours is None else Kind.OURS_ONLY if one.theirs is None else Kind.DIFFERS
        action = f"{BY_HAND}compare the payout's transactions with the orders, and feed the shares that are missing"
        lines.append(Line(kind, "", "", one.payout, one.what, action))
    return lines


def _method(payments: Mapping[str, GroupPayments], group: str, order: str) -> str:
    """The payment method of an order; empty if it is not known."""
    group_payments = payments.get(group)
    record = group_payments.orders.get(order) if group_payments is not None else None
    return record.method if record is not None else ""


def _pending(payments: Mapping[str, GroupPayments], group: str, order: str) -> bool:
    group_payments = payments.get(group)
    payment = group_payments.payment(order) if group_payments is not None else None
    return payment is not None and bool(payment.calls)


def _theirs_only(theirs: StatementEntry, pending: bool) -> Line:
    what = f"{theirs.authorised_minor} {theirs.currency} there, nothing here"
    if theirs.captured_minor:
        what += f"; {theirs.captured_minor} captured, {theirs.refunded_minor} refunded"
    claim = of_unknown(theirs)
    if claim is not None:
        action = "run with --feed to record it: payments then returns the money"
    else:
        action = f"{BY_HAND}a part was refunded at the provider; refund the rest there, and note it"
    return _line(Kind.THEIRS_ONLY, theirs.group, theirs.order, theirs.hold, what, action, pending, claim)


def _ours_only(known: OurHold, pending: bool) -> Line:
    what = f"{known.authorised} {known.currency} here, nothing there"
    action = (
        f"{BY_HAND}look the hold up at the provider; a statement that ends earlier, or of another account, "
        "does not have it"
    )
    return _line(Kind.OURS_ONLY, known.group, known.order, known.hold, what, action, pending, None)


def _compared(known: OurHold, theirs: StatementEntry, pending: bool, *, money_only: bool) -> Line:
    pairs = [
        ("captured", theirs.captured_minor, known.captured),
        ("refunded", theirs.refunded_minor, known.refunded),
    ]
    if not money_only:
        pairs.insert(0, ("authorised", theirs.authorised_minor, known.authorised))
        pairs.insert(2, ("released", theirs.released_minor, known.released))
    differences = [f"{name} {there} there, {here} here" for name, there, here in pairs if there != here]
    same = theirs.currency == known.currency and _is_of(theirs, known, money_only=money_only)
    if not same:
        differences.append(f"{theirs.currency} of group {theirs.group} order {theirs.order} there")
        differences.append(f"{known.currency} of group {known.group} order {known.order} here")
    if not differences:
        return Line(Kind.MATCHED, known.group, known.order, known.hold)
    claim = None
    if same and (money_only or theirs.authorised_minor == known.authorised):
        claim = of_known(theirs, known.order, held_here=known.open, captured_here=known.captured)
    what = "; ".join(differences)
    return _line(
        Kind.DIFFERS, known.group, known.order, known.hold, what, _action(known, theirs, claim), pending, claim
    )


def _is_of(theirs: StatementEntry, known: OurHold, *, money_only: bool) -> bool:
    """Whether the statement's ids are those of a hold here, or have become them by the derivation of missing ids."""
    ours = Address(known.group, known.order)
    if ours == (theirs.group, theirs.order) or (money_only and not theirs.order):
        # A report of money may have no ids of ours.
        return True
    reported = provider_name(theirs), theirs.group, theirs.order, theirs.hold
    return ours == address_of_hold(*reported) or ours in earlier_addresses(*reported)


def _action(known: OurHold, theirs: StatementEntry, claim: ProviderOutcome | None) -> str:
    if claim is not None:
        return "run with --feed to record it: payments then continues from the provider's operation"
    if theirs.refunded_minor > known.refunded:
        return f"{BY_HAND}the money was refunded at the provider; note it, and do not refund it again"
    if theirs.refunded_minor < known.refunded:
        return f"{BY_HAND}ask the provider for the state of the refund, and repeat it there if it was lost"
    return f"{BY_HAND}request the calls of this hold from the provider, and compare them with the group's decisions"


def _line(
    kind: Kind, group: str, order: str, hold: str, what: str, action: str, pending: bool, claim: ProviderOutcome | None
) -> Line:
    if pending:
        return Line(kind, group, order, hold, what, WAIT, pending=True)
    return Line(kind, group, order, hold, what, action, claim=claim)
