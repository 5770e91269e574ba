"""State of one purse, the payments of all orders of one group: the fold of its decisions, and nothing else.

An order is a `Payment` while anything is asked, held or still to be given back, and shrinks to a `Record` once nothing
is. A record stays, so that nothing late is ever taken for new. Must never be changed by anything but evolve.
"""

from __future__ import annotations

import heapq

import msgspec
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation

from services.payments.domain.model_parts import ASKING, COUNTERS, ENDING, Call, GivenUp, Hold, Intent, Refund


class Record(msgspec.Struct, array_like=True, tag=0):
    """What is kept of an order for good."""

    intent: Intent = Intent.NONE
    #: Taken at once, by a provider without delayed capture.
    sale: bool = False
    #: The one new authorisation after a lapsed hold was asked for.
    renewed: bool = False
    #: The provider refused to hold, or to capture: this order is over.
    refused: bool = False
    #: PaymentReleased was given.
    released: bool = False
    #: The hold ended by itself.
    lapsed: bool = False
    currency: str = ""
    #: Asked to be held at first, in minor units.
    amount: int = 0
    #: To be captured; 0 as long as nobody asked.
    to_capture: int = 0
    captured: int = 0
    #: Given back by command.
    refunded: int = 0
    #: Not to be kept, but the provider refused to give it back: for a person to mend.
    owed: int = 0
    #: Opaque token of the payment method.
    method: str = ""
    #: The provider's reference of the hold that counts.
    hold: str = ""
    #: Why it was refused.
    reason: str = ""
    #: Other holds that ever were, all over.
    others: tuple[str, ...] = ()
    #: Holds that unasked money was taken from and given back.
    compensated: tuple[str, ...] = ()
    #: Attempts so far; authorisations and sales share a counter, as an order has only one kind.
    asks: int = 0
    captures: int = 0
    voids: int = 0
    refund_calls: int = 0
    #: Commanded refunds by id.
    refunds: dict[str, Refund] | None = None
    #: Refund attempts that were given up, by attempt.
    given_up: dict[int, GivenUp] | None = None

    def next_attempt(self, operation: Operation.ValueType) -> int:
        """Number of the next call of this operation."""
        return int(getattr(self, COUNTERS[operation])) + 1

    def knows(self, hold: str) -> bool:
        """Whether money of this hold was ever booked here."""
        return hold == self.hold or hold in self.others

    def took(self, hold: str) -> bool:
        """Whether it is known that money was taken from a hold."""
        return self._counts(hold) or hold in self.compensated

    def _counts(self, hold: str) -> bool:
        return hold == self.hold and (self.sale or self.captured > 0)

    def refundable(self) -> int:
        """Captured money that no refund has claimed, in minor units."""
        return self.captured - self.refunded if self.intent is Intent.CAPTURE else 0


class Payment(Record, array_like=True, tag=1):
    """An order with something under way."""

    customer: str = ""
    #: Until when the money must be capturable, in milliseconds since the epoch.
    hold_until_ms: int = 0
    #: Where the shopper confirms, and the hold that will come of it.
    action_url: str = ""
    action_hold: str = ""
    holds: dict[str, Hold] = msgspec.field(default_factory=dict)
    #: By operation and attempt.
    calls: dict[tuple[Operation.ValueType, int], Call] = msgspec.field(default_factory=dict)

    def knows(self, hold: str) -> bool:
        """Whether money of this hold was ever booked here, or its end was asked for."""
        return hold in self.holds

    def may_begin(self, hold: str) -> bool:
        """Whether this hold may only be coming to be: nothing is known of it, or it waits to be confirmed."""
        return hold == self.action_hold or not self.knows(hold)

    def took(self, hold: str) -> bool:
        """Whether it is known that money was taken from a hold."""
        known = self.holds.get(hold)
        return known is not None and (self._counts(hold) or known.compensated)

    def asking(self) -> Call | None:
        """The call that may still make a hold; there is at most one."""
        for call in self.calls.values():
            if call.operation in ASKING:
                return call
        return None

    def ending(self, hold: str) -> Call | None:
        """The call under way that ends a hold; there is at most one."""
        for call in self.calls.values():
            if call.hold == hold and call.operation in ENDING:
                return call
        return None

    def refunding(self, hold: str, refund: str) -> Call | None:
        """The call under way of this refund; of refunds of the purse itself there is at most one a hold."""
        for call in self.calls.values():
            if call.refund == refund and call.hold == hold and call.operation == pb.OPERATION_REFUND:
                return call
        return None

    def declining(self, refund: str, amount: int) -> Call | None:
        """The call that RefundDeclined ends, which names no attempt: the first of this refund and amount."""
        for call in self.calls.values():
            if call.operation == pb.OPERATION_REFUND and call.refund == refund and (refund or call.amount == amount):
                return call
        return None

    def refundable(self) -> int:
        """Captured money that no refund has claimed, in minor units."""
        return Record.refundable(self) - self._commanded() if self.intent is Intent.CAPTURE else 0

    def _commanded(self) -> int:
        return sum(call.amount for call in self.calls.values() if call.refund)

    def must_go(self, hold: str) -> bool:
        """Whether a hold may not stay."""
        return self.refused or self.intent is Intent.RELEASE or hold != self.hold

    def excess(self, reference: str) -> int:
        """Taken money of a hold that may not be kept and did not go back yet, in minor units."""
        hold = self.holds[reference]
        return hold.taken - hold.returned - hold.owed - self._kept(reference, hold) if hold.taken else 0

    def _kept(self, reference: str, hold: Hold) -> int:
        if reference != self.hold or self.refused:
            return 0
        if self.intent is Intent.RELEASE:
            return self.refunded + self._commanded()
        if self.intent is Intent.CAPTURE:
            return self.to_capture if self.sale else self.captured
        return hold.taken if self.sale else 0

    def idle(self, but: Call | None = None) -> bool:
        """Whether nothing is asked, held, or to be given back, one call left aside."""
        if len(self.calls) > (but is not None):
            return False
        return all(not one.held and not one.suspense and self.excess(name) <= 0 for name, one in self.holds.items())

    def over(self) -> bool:
        """Whether nothing will happen any more unless somebody asks for it."""
        if self.calls:
            return False
        match self.intent:
            case Intent.RELEASE:
                return self.released and self.idle()
            case Intent.CAPTURE:
                return (self.refused or self.captured > 0) and self.idle()
            case Intent.HOLD:
                return self.refused and self.idle()
            case _:
                return self.idle()

    def shrunk(self) -> Record:
        """What is kept of it."""
        kept = Record(*[getattr(self, name) for name in _KEPT])
        kept.others = tuple([name for name in self.holds if name != self.hold])
        kept.compensated = tuple([name for name, hold in self.holds.items() if hold.compensated])
        return kept


_KEPT = Record.__struct_fields__


def grown(record: Record) -> Payment:
    """A record as a payment again, since something new happens to it."""
    payment = Payment(*[getattr(record, name) for name in _KEPT])
    names = (record.hold, *record.others) if record.hold else record.others
    for name in names:
        payment.holds[name] = Hold(record.currency, compensated=name in record.compensated)
    if record.hold and record.intent is Intent.CAPTURE:
        payment.holds[record.hold].taken = record.captured
    payment.others = payment.compensated = ()
    return payment


class GroupPayments(msgspec.Struct, array_like=True):
    """The payments of all orders of one group."""

    group: str
    #: By order.
    orders: dict[str, Record | Payment] = msgspec.field(default_factory=dict)
    #: Heap of (when, order, operation, attempt) of calls that wait. Its first entry is always a call that really does.
    retries: list[tuple[int, str, Operation.ValueType, int]] = msgspec.field(default_factory=list)

    def payment(self, order: str) -> Payment | None:
        """An order that has something under way; otherwise None."""
        found = self.orders.get(order)
        return found if isinstance(found, Payment) else None

    def waiting(self, entry: tuple[int, str, Operation.ValueType, int]) -> Call | None:
        """The call of an entry of `retries`; None if it waits no longer, or until another time."""
        retry_at_ms, order, operation, attempt = entry
        payment = self.payment(order)
        call = payment.calls.get((operation, attempt)) if payment is not None else None
        return call if call is not None and call.retry_at_ms == retry_at_ms else None

    def next_due(self, at_ms: int) -> tuple[str, Payment, Call] | None:
        """The call that has waited longest of those that are due, and whose it is."""
        if not self.retries or self.retries[0][0] > at_ms:
            return None
        entry = self.retries[0]
        payment, call = self.payment(entry[1]), self.waiting(entry)
        return (entry[1], payment, call) if payment is not None and call is not None else None

    def drop_stale(self) -> None:
        """Keeps the promise of `retries`."""
        while self.retries and self.waiting(self.retries[0]) is None:
            heapq.heappop(self.retries)
