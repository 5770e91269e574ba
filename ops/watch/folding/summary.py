"""The share of one group in the totals of watch: outcomes, money, open work and violations."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from ops.audit.across import AcrossLogs, Scope
from ops.audit.cases import Case
from ops.audit.findings import Findings, Violation
from ops.audit.group.kept_price import kept_price_cost
from ops.audit.group.membership import GroupState
from ops.audit.group.seats import SeatState
from ops.audit.money.holds import Payment
from ops.audit.money.status import status_of
from shared_kernel.payment_providers import CAPABILITIES, provider_of

#: State of an order -> its end in groupbuy_orders_total.
ORDER_ENDS: dict[SeatState, str] = {
    SeatState.SETTLED: "settled",
    SeatState.REFUSED: "refused",
    SeatState.CANCELLED: "cancelled",
    SeatState.LAPSED: "expired",
    SeatState.DECLINED: "failed",
    SeatState.RELEASED: "released",
}

#: All providers; the first one has the methods without a provider.
PROVIDERS = tuple(CAPABILITIES)

#: How long before its end an open hold counts as near its lapse, in milliseconds.
NEAR_LAPSE_MS = 6 * 60 * 60 * 1000


class Money(Struct, array_like=True, gc=False):
    """Sums of one currency, in minor units."""

    held: int = 0
    captured: int = 0
    voided: int = 0
    lapsed: int = 0
    refunded: int = 0
    #: Unexpected funds that are not returned yet.
    suspense: int = 0
    #: Refunds that the provider has not made yet.
    owed: int = 0
    #: Charges in the group log.
    charged: int = 0
    #: Captures less our own refunds in the payment log.
    kept: int = 0

    def add(self, other: Money, sign: int = 1) -> None:
        """Adds or, with -1, subtracts."""
        self.held += sign * other.held
        self.captured += sign * other.captured
        self.voided += sign * other.voided
        self.lapsed += sign * other.lapsed
        self.refunded += sign * other.refunded
        self.suspense += sign * other.suspense
        self.owed += sign * other.owed
        self.charged += sign * other.charged
        self.kept += sign * other.kept


class Pieces(Struct, array_like=True, gc=False):
    """The pieces of one stock item, in groups and by its own log."""

    #: By the groups' logs: pieces that they have, and pieces of charged members.
    held: int = 0
    charged: int = 0
    #: By the log of the stock item.
    total: int = 0
    leased: int = 0
    sold: int = 0
    #: Time of the newest decision about it, in milliseconds since the epoch.
    at_ms: int = 0

    @property
    def equal(self) -> bool:
        """Whether both say the same. Messages on their way make them differ."""
        return (self.held, self.charged) == (self.leased, self.sold)

    def add(self, other: Pieces) -> None:
        """Adds the sums of another worker."""
        self.held += other.held
        self.charged += other.charged
        self.total += other.total
        self.leased += other.leased
        self.sold += other.sold
        self.at_ms = max(self.at_ms, other.at_ms)


class OpenHold(Struct, array_like=True, gc=False):
    """A hold that is neither captured nor ended. Times are in milliseconds since the epoch; 0: unknown."""

    currency: str
    provider: str
    minor: int
    authorised_ms: int
    capturable_until_ms: int


class OpenItem(Struct, array_like=True, gc=False):
    """Work that is not done. Times are in milliseconds since the epoch."""

    #: deadline, settlement, order, hold, call, release or refund.
    kind: str
    order: str
    since_ms: int
    #: When it should be done.
    due_ms: int
    why: str


class Summary(Struct, array_like=True):
    """The share of a group in the totals."""

    #: settled, expired or cancelled; empty before the end.
    end: str = ""
    #: Orders by their end.
    orders: dict[str, int] = field(default_factory=dict)
    money: dict[str, Money] = field(default_factory=dict)
    holds: list[OpenHold] = field(default_factory=list)
    items: list[OpenItem] = field(default_factory=list)
    #: When a closed group whose payments are not at their end was closed; 0: it is forming, or all are at their end.
    unsettled_since_ms: int = 0
    #: The number of pending pieces of work, as the audit counts them.
    pending: int = 0
    #: Its stock item, empty if there is none; pieces that it has, pieces of charged members, and time of its last
    #: decision.
    stock: str = ""
    held: int = 0
    charged: int = 0
    at_ms: int = 0
    #: Loss of the merchant because captures failed and the price stayed, in minor units; 0: none.
    kept_price_minor: int = 0
    #: Its campaign and currency, if it has such a cost.
    campaign: str = ""
    currency: str = ""

    @property
    def open(self) -> bool:
        """Whether something is left to do."""
        return bool(self.items or self.holds or self.pending)


def summarise(case: Case, scope: Scope) -> tuple[Summary, list[Violation]]:
    """The summary of a case, and what it violates across its logs."""
    findings = Findings()
    AcrossLogs(case, scope, findings).check()
    group = case.group
    found = Summary(end=_end(case), pending=findings.pending_count)
    for seat in group.seats.values():
        end = ORDER_ENDS.get(seat.state)
        if end is not None:
            found.orders[end] = found.orders.get(end, 0) + 1
        if seat.settled_minor > 0:
            _money(found, seat.currency).charged += seat.settled_minor
    for payment in case.group_payments.payments.values():
        _add_payment(found, payment)
    if group.supply is not None and group.terms is not None and group.terms.stock and not case.trimmed:
        found.stock, found.held, found.charged = group.terms.stock, group.supply.held, group.supply.sold
        found.at_ms = group.chain.time_ms
    cost_minor = kept_price_cost(group)
    if cost_minor and group.terms is not None:
        found.kept_price_minor = cost_minor
        found.campaign, found.currency = group.terms.campaign, group.terms.currency
    if found.pending and not case.trimmed:
        found.items.extend(_items(case))
        found.unsettled_since_ms = _unsettled_since(case)
    return found, findings.violations


def _end(case: Case) -> str:
    match case.group.state:
        case GroupState.COMPLETED:
            return "settled" if case.group.settled else ""
        case GroupState.EXPIRED:
            return "expired"
        case GroupState.CANCELLED:
            return "cancelled"
    return ""


def _money(found: Summary, currency: str) -> Money:
    money = found.money.get(currency)
    if money is None:
        money = found.money[currency] = Money()
    return money


def _add_payment(found: Summary, payment: Payment) -> None:
    for hold in payment.holds.values():
        money = _money(found, hold.currency)
        money.held += hold.held
        money.captured += hold.captured
        money.voided += hold.released - hold.lapsed
        money.lapsed += hold.lapsed
        money.refunded += hold.refunded
        money.suspense += hold.suspense_left
        money.kept += hold.merchants
        if hold.open > 0:
            found.holds.append(
                OpenHold(
                    hold.currency,
                    provider_of(payment.method) or PROVIDERS[0],
                    hold.open,
                    hold.authorised_ms,
                    hold.capturable_until_ms,
                )
            )
    if owed := payment.due:
        _money(found, payment.currency).owed += owed


def _unsettled_since(case: Case) -> int:
    """When a closed group was closed, or a later call of a settled group was requested; 0: nothing is unsettled."""
    group = case.group
    if not group.closed_ms:
        return 0
    seats = group.seats.values()
    if (
        (group.state is GroupState.COMPLETED and not group.settled)
        or any(seat.release_requested and not seat.released for seat in seats)
        or any(not seat.state.final for seat in seats)
    ):
        return group.closed_ms
    since = [
        at_ms
        for payment in case.group_payments.payments.values()
        for call, at_ms in payment.pending.items()
        if not call.startswith("refund ")
    ]
    return min(since, default=0)


def _items(case: Case) -> Iterator[OpenItem]:
    group = case.group
    if group.state is GroupState.FORMING:
        yield OpenItem("deadline", "", group.chain.time_ms, group.deadline_ms, "the group is forming past its deadline")
    elif group.state is GroupState.COMPLETED and not group.settled:
        left = sum(not group.seats[order].state.final for order in group.members if order in group.seats)
        why = f"the group is completed; {left} of {len(group.members)} members have no final state"
        yield OpenItem("settlement", "", group.closed_ms, group.closed_ms, why)
    for order, placed in case.placed.items():
        if order not in group.seats:
            yield OpenItem("order", order, placed.at_ms, placed.at_ms, "placed and not decided")
    for order in case.unreadable - case.placed.keys():
        if order not in group.seats:
            yield OpenItem("order", order, case.at_ms, case.at_ms, "its record can't be decoded, and it is not refused")
    yield from _seat_items(case)
    for order, payment in case.group_payments.payments.items():
        yield from _payment_items(case, order, payment)
    for refund, command in case.refunds.items():
        order = command.order
        owner = case.group_payments.payments.get(order)
        if owner is None or refund not in owner.refunds:
            yield OpenItem("refund", order, case.at_ms, case.at_ms, f"refund {refund} is not decided")


def _seat_items(case: Case) -> Iterator[OpenItem]:
    group = case.group
    for order, seat in group.seats.items():
        if seat.release_requested and not seat.released:
            at_ms = group.closed_ms or case.at_ms
            yield OpenItem("release", order, at_ms, at_ms, f"{seat.state.name}; its release is requested and not done")
        elif seat.state is SeatState.RESERVED:
            until_ms = seat.reserved_until_ms
            yield OpenItem("order", order, until_ms, until_ms, "reserved past its time, neither confirmed nor released")
        elif seat.state is SeatState.ADMITTING:
            yield OpenItem("order", order, case.at_ms, case.at_ms, "waits for the answer of the customer's allowance")


def _payment_items(case: Case, order: str, payment: Payment) -> Iterator[OpenItem]:
    seat = case.group.seats.get(order)
    for call, since_ms in payment.pending.items():
        # The shopper confirms a hold until the reservation ends.
        waits = call == "hold" and bool(payment.action_url) and seat is not None
        due_ms = max(since_ms, seat.reserved_until_ms) if waits and seat is not None else since_ms
        yield OpenItem(
            "call", order, since_ms, due_ms, f"call `{call}` has no result; the payment is {status_of(payment)}"
        )
    for reference, hold in payment.holds.items():
        if hold.open <= 0:
            continue
        amount = f"hold {reference} of {hold.open} {hold.currency}"
        if closed_ms := case.group.closed_ms:
            due_ms = max(closed_ms, hold.authorised_ms)
            yield OpenItem("hold", order, hold.authorised_ms, due_ms, f"{amount} is open in a closed group")
        elif hold.capturable_until_ms:
            due_ms = hold.capturable_until_ms - NEAR_LAPSE_MS
            yield OpenItem("hold", order, hold.authorised_ms, due_ms, f"{amount} will lapse before it is captured")
