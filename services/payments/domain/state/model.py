"""State of the payments of one group: the fold of their decisions. Only `evolve` changes it.

An order has a `Payment` while a call is pending, money is held or money has to be returned. Then it shrinks to a
`Record`, which is kept for good, so that a late report is never mistaken for a new one.

Classes are stored as their values in the order of declaration (processors/codec.py): a change of fields needs a new
STATE_STAMP (processors/decider.py). Amounts are in minor units, times in milliseconds since the epoch.
"""

from __future__ import annotations

import heapq

import msgspec
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation

from services.payments.domain.state.holds import (
    CHECK,
    COUNTERS,
    HOLD_ENDING,
    HOLD_OPENING,
    SALE_PREFIX,
    AbandonedRefund,
    Call,
    Hold,
    Intent,
    Refund,
    RefundStatus,
    Retry,
)
from services.payments.domain.state.provider_life import (
    Acted,
    Adjustment,
    Dispute,
    DisputeStatus,
    Owed,
    PaidRefund,
    Timer,
    TimerKind,
    owed_key,
)

#: The parts of the state are in holds.py; the rules import them from here.
__all__ = [
    "CHECK",
    "COUNTERS",
    "HOLD_ENDING",
    "HOLD_OPENING",
    "SALE_PREFIX",
    "AbandonedRefund",
    "Call",
    "GroupPayments",
    "Hold",
    "Intent",
    "Payment",
    "Record",
    "Refund",
    "RefundStatus",
    "Retry",
    "reopened",
]


class Record(msgspec.Struct, array_like=True, tag=0):
    """The part of an order's payment that is kept for good."""

    intent: Intent = Intent.NONE
    #: The money is taken at once, by a provider without delayed capture.
    sale: bool = False
    #: A lapsed hold was authorised anew, which is done once.
    renewed: bool = False
    #: The provider declined the hold or the capture; final.
    declined: bool = False
    #: PaymentReleased was emitted.
    released: bool = False
    #: The hold ended by itself.
    lapsed: bool = False
    currency: str = ""
    #: Amount of the first hold request.
    amount: int = 0
    #: Amount to capture; 0 until the group requests settlement.
    to_capture: int = 0
    captured: int = 0
    #: Refunded by command.
    refunded: int = 0
    #: Due to the customer, but the provider declined its refund; an operator has to settle it.
    owed: int = 0
    #: Opaque token of the payment method.
    method: str = ""
    #: The provider's reference of the order's own hold.
    hold: str = ""
    #: Why the payment was declined.
    reason: str = ""
    #: All further holds, each of them ended.
    other_holds: tuple[str, ...] = ()
    #: Holds from which unexpected funds were taken and returned.
    unexpected_holds: tuple[str, ...] = ()
    hold_attempts: int = 0
    capture_attempts: int = 0
    void_attempts: int = 0
    refund_attempts: int = 0
    #: Commanded refunds by id.
    refunds: dict[str, Refund] | None = None
    #: Abandoned refund attempts, by attempt.
    abandoned: dict[int, AbandonedRefund] | None = None
    #: Refund attempts that succeeded, by attempt. Not kept under rules version 1.
    paid: dict[int, PaidRefund] | None = None
    #: Refunds made by persons at the provider, by reference.
    external: dict[str, PaidRefund] | None = None
    #: Disputes by the provider's id.
    disputes: dict[str, Dispute] | None = None
    #: References of fees, payouts, warnings and operations of persons that were recorded.
    references: tuple[str, ...] = ()
    #: HoldLost was emitted.
    lost: bool = False
    #: Money taken and returned, by hold, if disputes or persons returned any: they may have returned more than was due,
    #: which counts if a refund comes back later.
    balances: dict[str, tuple[int, int]] | None = None
    #: Money that went back to the customer twice, by `owed_key`, until it comes back or an adjustment explains it.
    returned_twice: dict[str, int] | None = None

    def next_attempt(self, operation: Operation.ValueType) -> int:
        """Number of the next call of this operation."""
        return int(getattr(self, COUNTERS[operation])) + 1

    def knows(self, hold: str) -> bool:
        """Whether money of this hold was ever booked here."""
        return hold == self.hold or hold in self.other_holds

    def has_taken(self, hold: str) -> bool:
        """Whether a charge from this hold is booked already."""
        return self._has_charged(hold) or hold in self.unexpected_holds

    def _has_charged(self, hold: str) -> bool:
        return hold == self.hold and (self.sale or self.captured > 0)

    def refundable(self) -> int:
        """Captured money that no refund has claimed, and no dispute."""
        return self.charge_left() if self.intent is Intent.CAPTURE else 0

    def charge_left(self) -> int:
        """The charge, less refunds by command, and less disputes as far as they withdrew it."""
        left = self.captured - self.refunded
        return left - self.disputed(self.hold) + self._covered() if self.disputes else left

    def _covered(self) -> int:
        """Money beside the charge that lost disputes gave to the customer. It may not be kept and is not returned."""
        taken, returned = (self.balances or {}).get(self.hold, (self.captured, 0))
        return min(self._lost(self.hold), max(taken - returned - self.captured, 0))

    def _lost(self, hold: str) -> int:
        """Money of a hold that disputes have withdrawn for good."""
        lost = DisputeStatus.LOST
        disputes = (self.disputes or {}).values()
        return sum(one.withdrawn() for one in disputes if one.hold == hold and one.status is lost)

    def disputed(self, hold: str) -> int:
        """Money of a hold that disputes have withdrawn: until they end, or for good."""
        return sum(one.withdrawn() for one in self.disputes.values() if one.hold == hold) if self.disputes else 0


class Payment(Record, array_like=True, tag=1):
    """The payment of an order with pending calls, or with money that is held or due."""

    customer: str = ""
    #: Until when the money must be capturable.
    hold_until_ms: int = 0
    #: Where the shopper confirms, and the hold that the confirmation opens.
    action_url: str = ""
    action_hold: str = ""
    holds: dict[str, Hold] = msgspec.field(default_factory=dict)
    #: Pending calls by operation and attempt.
    calls: dict[tuple[Operation.ValueType, int], Call] = msgspec.field(default_factory=dict)
    #: Sums that are due to the customer and that the provider refused to return, by `owed_key`.
    debts: dict[str, Owed] = msgspec.field(default_factory=dict)
    #: When the order's hold is checked; 0: it is not, or was.
    check_at_ms: int = 0

    def knows(self, hold: str) -> bool:
        """Whether money of this hold was ever booked here, or its end was requested."""
        return hold in self.holds

    def may_open(self, hold: str) -> bool:
        """Whether a result may open this hold: it is unknown, or waits for the shopper's confirmation."""
        return hold == self.action_hold or not self.knows(hold)

    def has_taken(self, hold: str) -> bool:
        """Whether a charge from this hold is booked already."""
        known = self.holds.get(hold)
        return known is not None and (self._has_charged(hold) or known.unexpected)

    def pending_authorisation(self) -> Call | None:
        """The pending call that may still open a hold; there is at most one."""
        for call in self.calls.values():
            if call.operation in HOLD_OPENING:
                return call
        return None

    def pending_end(self, hold: str) -> Call | None:
        """The pending capture or void of a hold; there is at most one."""
        for call in self.calls.values():
            if call.hold == hold and call.operation in HOLD_ENDING:
                return call
        return None

    def pending_refund(self, hold: str, refund: str) -> Call | None:
        """The pending call of a refund; a hold has at most one without a command."""
        for call in self.calls.values():
            if call.refund == refund and call.hold == hold and call.operation == pb.OPERATION_REFUND:
                return call
        return None

    def declined_refund(self, refund: str, amount: int) -> Call | None:
        """The call that a RefundDeclined ends. The event names no attempt: the first of this refund and amount."""
        for call in self.calls.values():
            if call.operation == pb.OPERATION_REFUND and call.refund == refund and (refund or call.amount == amount):
                return call
        return None

    def refundable(self) -> int:
        """Captured money that no refund has claimed."""
        return Record.refundable(self) - self._claimed() if self.intent is Intent.CAPTURE else 0

    def _covered(self) -> int:
        """See Record. A pending return is not covered."""
        hold = self.holds.get(self.hold)
        if hold is None:
            return 0
        pending = self.pending_refund(self.hold, "")
        beside = hold.taken - hold.returned - self.captured - (0 if pending is None else pending.amount)
        return min(self._lost(self.hold), max(beside, 0))

    def _claimed(self) -> int:
        """Amount of the commanded refunds that are pending or owed."""
        claimed = sum(call.amount for call in self.calls.values() if call.refund)
        for debt in self.debts.values():
            if debt.refund and self.pending_refund(debt.hold, debt.refund) is None:
                claimed += debt.amount
        return claimed

    def must_release(self, hold: str) -> bool:
        """Whether held money of this hold has to be released."""
        return self.declined or self.intent is Intent.RELEASE or hold != self.hold

    def excess(self, reference: str) -> int:
        """Money of a hold that was taken, may not be kept, and is neither returned nor owed yet."""
        return self.due(reference) - self.holds[reference].owed

    def due(self, reference: str) -> int:
        """Money of a hold that was taken, may not be kept and is not returned yet."""
        if not self.holds[reference].taken:
            return 0
        return self.due_beside_disputes(reference) - (self.disputed(reference) if self.disputes else 0)

    def due_beside_disputes(self, reference: str) -> int:
        """The same, with the money that disputes have withdrawn."""
        hold = self.holds[reference]
        return hold.taken - hold.returned - self._kept(reference, hold)

    def _kept(self, reference: str, hold: Hold) -> int:
        """Taken money of a hold that is the shop's, or that commanded refunds return."""
        if reference != self.hold or self.declined:
            return 0
        if self.intent is Intent.RELEASE:
            return self.refunded + self._claimed()
        if self.intent is Intent.CAPTURE:
            return self.to_capture if self.sale else self.captured
        return hold.taken if self.sale else 0

    def idle(self, besides: Call | None = None) -> bool:
        """Whether no call is pending, except one, nothing is held and nothing is to be returned."""
        if len(self.calls) > (besides is not None):
            return False
        return all(not one.held and not one.suspense and self.excess(name) <= 0 for name, one in self.holds.items())

    def finished(self) -> bool:
        """Whether nothing happens any more without a new input about this order."""
        if self.calls or self.debts or self.in_dispute():
            return False
        match self.intent:
            case Intent.RELEASE:
                return self.released and self.idle()
            case Intent.CAPTURE:
                return (self.declined or self.captured > 0) and self.idle()
            case Intent.HOLD:
                return self.declined and self.idle()
            case _:
                return self.idle()

    def in_dispute(self) -> bool:
        """Whether a dispute is open that has withdrawn money."""
        open_ = DisputeStatus.OPEN
        return bool(self.disputes) and any(
            one.status is open_ and one.withdrawn_amount for one in (self.disputes or {}).values()
        )

    def debt(self, hold: str, refund: str) -> Owed | None:
        """The sum that is owed for a hold and a refund."""
        return self.debts.get(owed_key(hold, refund)) if self.debts else None

    def to_record(self) -> Record:
        """The record of a finished payment."""
        kept = Record(*[getattr(self, name) for name in _RECORD_FIELDS])
        kept.other_holds = tuple([name for name in self.holds if name != self.hold])
        kept.unexpected_holds = tuple([name for name, hold in self.holds.items() if hold.unexpected])
        if self.disputes or self.external:
            kept.balances = {name: (hold.taken - hold.owed, hold.returned) for name, hold in self.holds.items()}
        return kept


_RECORD_FIELDS = Record.__struct_fields__


def reopened(record: Record) -> Payment:
    """The payment of a record, for an order to which something new happens."""
    payment = Payment(*[getattr(record, name) for name in _RECORD_FIELDS])
    names = (record.hold, *record.other_holds) if record.hold else record.other_holds
    for name in names:
        payment.holds[name] = Hold(record.currency, unexpected=name in record.unexpected_holds)
    if record.hold and record.intent is Intent.CAPTURE:
        payment.holds[record.hold].taken = record.captured
    for name, (taken, returned) in (record.balances or {}).items():
        payment.holds[name].taken, payment.holds[name].returned = taken, returned
    payment.balances = None
    payment.other_holds = payment.unexpected_holds = ()
    return payment


class GroupPayments(msgspec.Struct, array_like=True):
    """The payments of all orders of one group."""

    group: str
    #: By order.
    orders: dict[str, Record | Payment] = msgspec.field(default_factory=dict)
    #: Heap of deferred calls. Entries may be stale, except the first.
    retries: list[Retry] = msgspec.field(default_factory=list)
    #: Version of the rules that decide these payments; 0: nothing is decided yet.
    rules_version: int = 0
    #: Heap of refunds of owed sums and returns of suspense. Entries may be stale, except the first.
    timers: list[Timer] = msgspec.field(default_factory=list)
    #: Decided commands of operators, by request id.
    actions: dict[str, Acted] = msgspec.field(default_factory=dict)
    #: Proposed adjustments that wait for their approval, by request id.
    adjustments: dict[str, Adjustment] = msgspec.field(default_factory=dict)

    def under(self, rules_version: int) -> GroupPayments:
        """The same payments, not a copy, under the rules that their first input selects."""
        return GroupPayments(
            self.group, self.orders, self.retries, rules_version, self.timers, self.actions, self.adjustments
        )

    def payment(self, order: str) -> Payment | None:
        """The payment of an order that is not finished; None otherwise."""
        found = self.orders.get(order)
        return found if isinstance(found, Payment) else None

    def deferred_call(self, entry: Retry) -> Call | None:
        """The call of an entry of `retries`; None if the entry is stale."""
        retry_at_ms, order, operation, attempt = entry
        payment = self.payment(order)
        call = payment.calls.get((operation, attempt)) if payment is not None else None
        return call if call is not None and call.retry_at_ms == retry_at_ms else None

    def next_due(self, at_ms: int) -> tuple[str, Payment, Call] | None:
        """The earliest retry that is due: order, payment and call. None: no retry is due."""
        if not self.retries or self.retries[0][0] > at_ms:
            return None
        entry = self.retries[0]
        payment, call = self.payment(entry[1]), self.deferred_call(entry)
        return (entry[1], payment, call) if payment is not None and call is not None else None

    def drop_stale_retries(self) -> None:
        """Removes stale entries from the front of `retries`."""
        while self.retries and self.deferred_call(self.retries[0]) is None:
            heapq.heappop(self.retries)
        while self.timers and not self._is_set(self.timers[0]):
            heapq.heappop(self.timers)

    def _is_set(self, timer: Timer) -> bool:
        at_ms, order, kind, name = timer
        payment = self.payment(order)
        if payment is None:
            return False
        if kind == TimerKind.OWED:
            debt = payment.debts.get(name)
            return debt is not None and debt.next_ms == at_ms
        hold = payment.holds.get(name)
        if kind == TimerKind.CHECK:
            return payment.check_at_ms == at_ms and payment.intent is Intent.HOLD and hold is not None and hold.held > 0
        return hold is not None and hold.suspense > 0 and hold.return_at_ms == at_ms

    def due_ms(self) -> int | None:
        """When something is due by itself; None: nothing is."""
        times = [heap[0][0] for heap in (self.retries, self.timers) if heap]
        return min(times) if times else None

    def order_of(self, hold: str) -> str:
        """The order of a hold; empty: no order has it."""
        return next((order for order, record in self.orders.items() if record.knows(hold)), "") if hold else ""
