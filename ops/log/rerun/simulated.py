"""Decides a group's inbox again with other terms: the outcome if the shoppers had done the same. Writes nothing.

Orders, cancellations and times are those of the log. Payments keep their results: an authorised hold is authorised for
the new amount, a declined one is declined, one without a result gets none. A refused order that now has a seat has no
result in the log: it is assumed to pay at once, and is counted.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.payments.v1 import decisions_pb2 as p

from eventlog.core.aggregate import Aggregate, decide
from services.groups.domain.domain import GroupDomain
from services.groups.domain.model import State
from services.groups.domain.pricing import kept_price_cost
from services.groups.domain.terms import Terms, UnknownRules, terms_of

#: Returns the campaign with the changed terms.
Change = Callable[[Campaign], Campaign]

#: Counter of an Outcome by the event that it counts.
_COUNTERS = {
    "opened": "opened",
    "completed": "completed",
    "expired": "expired",
    "cancelled": "cancelled",
    "seat_refused": "refused",
    "member_settled": "settled",
    "member_declined": "declined",
    "seat_released": "released",
}
_RELEASED = frozenset({g.RELEASE_REASON_GROUP_EXPIRED, g.RELEASE_REASON_GROUP_CANCELLED, g.RELEASE_REASON_FAULTED})


@dataclass(slots=True)
class Outcome:
    """The outcome of one or more groups. Amounts are in minor units by currency."""

    opened: int = 0
    completed: int = 0
    expired: int = 0
    cancelled: int = 0
    refused: int = 0
    settled: int = 0
    #: Members whose capture was declined.
    declined: int = 0
    released: int = 0
    #: Refusals because of pieces and limits, and pieces of charged members.
    sold_out: int = 0
    over_limit: int = 0
    pieces: int = 0
    captured: Counter[str] = field(default_factory=Counter)
    #: The loss of the merchant because the price stayed after declined captures.
    kept_price_cost: Counter[str] = field(default_factory=Counter)
    #: Of one group: its terms, and the price of a piece at its completion.
    terms: Terms | None = field(default=None, compare=False)
    unit_price_minor: int = field(default=0, compare=False)
    #: Of one group: the members that it completed with, and their pieces.
    members: int = field(default=0, compare=False)
    members_pieces: int = field(default=0, compare=False)

    def count(self, event: g.GroupEvent, currency: str, quantities: Mapping[str, int]) -> None:
        """Counts one event of a group. `quantities`: the pieces of each seat, by order."""
        body = event.WhichOneof("body") or ""
        if body == "opened":
            # A forged record may have rules that no build knows. Without terms the cost of kept prices is not counted.
            with suppress(UnknownRules):
                self.terms = terms_of(event.opened.terms.SerializeToString())
        elif body == "completed":
            orders = event.completed.orders
            self.unit_price_minor = event.completed.unit_price_minor
            self.members = len(orders)
            self.members_pieces = sum(quantities.get(order, 0) for order in orders)
        elif body == "settled" and event.settled.declined and self.terms is not None:
            charged = event.settled.settled
            cost = kept_price_cost(self.terms, self.unit_price_minor, charged, self.pieces)
            self.kept_price_cost[currency] += cost
        name = _COUNTERS.get(body)
        if name is None or (body == "seat_released" and event.seat_released.reason not in _RELEASED):
            return
        setattr(self, name, getattr(self, name) + 1)
        if body == "member_settled":
            self.captured[currency] += event.member_settled.amount_minor
            self.pieces += quantities.get(event.member_settled.order, 0)
        elif body == "seat_refused":
            self.sold_out += event.seat_refused.reason == g.REFUSAL_REASON_SOLD_OUT
            self.over_limit += event.seat_refused.reason == g.REFUSAL_REASON_LIMIT_REACHED

    def add(self, other: Outcome) -> None:
        """Adds the counts of another outcome."""
        for name in (*_COUNTERS.values(), "sold_out", "over_limit", "pieces"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.captured += other.captured
        self.kept_price_cost += other.kept_price_cost


class Actual:
    """One group by its decision log."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        #: Orders with a seat and their pieces, and those whose capture was declined.
        self.seated: dict[str, int] = {}
        self.failed: set[str] = set()
        self.version = 0
        self._currency = ""

    def take(self, decision: g.GroupDecision) -> None:
        """Takes the next decision. Ignores a duplicate."""
        if decision.version <= self.version:
            return
        self.version = decision.version
        for event in decision.events:
            body = event.WhichOneof("body")
            if body == "opened":
                self._currency = event.opened.terms.currency
            elif body == "seat_reserved":
                self.seated[event.seat_reserved.order] = event.seat_reserved.quantity
            elif body == "member_declined":
                self.failed.add(event.member_declined.order)
            self.outcome.count(event, self._currency, self.seated)


@dataclass(frozen=True, slots=True)
class _HoldResult:
    """The result of an order's hold, and its offset in the inbox."""

    offset: int
    event: p.PaymentEvent


class Simulated:
    """One group, simulated. Call `add_results` for all records of its inbox, then `take` in order, then `finish`."""

    def __init__(
        self, key: str, actual: Actual, change: Change, on_decision: Callable[[bytes], None] = lambda _: None
    ) -> None:
        """`on_decision` is called with each decision."""
        self.outcome = Outcome()
        #: The number of orders that are assumed to pay.
        self.assumed = 0
        self._actual = actual
        self._change = change
        self._on_decision = on_decision
        self._domain = GroupDomain()
        self._aggregate: Aggregate[State] = Aggregate(key, self._domain.initial(key))
        self._results: dict[str, _HoldResult] = {}
        #: Seats that wait for the result of their hold, by order.
        self._pending: dict[str, g.SeatReserved] = {}
        #: Pieces of each seat, by order.
        self._quantities: dict[str, int] = {}
        #: Place in the log: the offset of the last record taken.
        self._offset = -1
        #: Inputs have new numbers, because simulated results come between those of the log.
        self._number = 0
        self._currency = ""

    def add_results(self, offset: int, record: GroupInput) -> None:
        """Adds the hold results of a record. The simulation may need them earlier or later than they came."""
        for order, event in _hold_results(record):
            self._results.setdefault(order, _HoldResult(offset, event))

    def take(self, offset: int, at_ms: int, record: GroupInput) -> None:
        """Decides one record of the log."""
        self._offset = offset
        if record.WhichOneof("body") == "payment_decision":
            for order, event in _hold_results(record):
                if self._results[order].offset == offset and order in self._pending:
                    self._decide([self._hold_input(order, event)], offset, at_ms)
            return
        if record.HasField("campaign"):
            changed = GroupInput()
            changed.CopyFrom(record)
            changed.campaign.CopyFrom(self._change(record.campaign))
            record = changed
        self._decide([record], offset, at_ms)

    def answer(self, record: GroupInput, at_ms: int) -> None:
        """Decides an answer of a stock item or an allowance."""
        self._decide([record], self._offset, at_ms)

    def due_ms(self) -> int | None:
        """Time of the next timer, in milliseconds since the epoch."""
        return self._domain.due(self._aggregate.state)

    def fire(self, at_ms: int) -> None:
        """Fires the timers that are due."""
        self._decide([GroupInput.FromString(self._domain.tick(at_ms))], self._offset, at_ms)

    def finish(self, end_ms: int) -> None:
        """Advances the time to the end of the log."""
        while (due_ms := self.due_ms()) is not None and due_ms <= end_ms:
            self._decide([GroupInput.FromString(self._domain.tick(due_ms))], 1 << 62, due_ms)

    def _decide(self, records: Iterable[GroupInput], offset: int, at_ms: int) -> None:
        """Decides records, and the inputs that follow from them, at one time. `offset` is the place in the log."""
        waiting = deque(records)
        while waiting:
            value = waiting.popleft().SerializeToString()
            self._number += 1
            encoded = decide(self._domain, self._aggregate, value, self._number, at_ms)
            if encoded is not None:
                self._on_decision(encoded)
                for event in g.GroupDecision.FromString(encoded).events:
                    self._follow(event, offset, waiting)

    def _follow(self, event: g.GroupEvent, offset: int, waiting: deque[GroupInput]) -> None:
        body = event.WhichOneof("body")
        if body == "opened":
            self._currency = event.opened.terms.currency
        elif body == "seat_reserved":
            self._quantities[event.seat_reserved.order] = event.seat_reserved.quantity
            self._request_hold(event.seat_reserved, offset, waiting)
        elif body == "settlement_requested":
            request = event.settlement_requested
            if request.order in self._actual.failed:
                waiting.append(_input(capture_declined=p.CaptureDeclined(order=request.order, reason="as it was")))
            else:
                captured = p.Captured(
                    order=request.order, hold=request.hold, amount_minor=request.amount_minor, currency=request.currency
                )
                waiting.append(_input(captured=captured))
        elif body == "release_requested":
            waiting.append(_input(payment_released=p.PaymentReleased(order=event.release_requested.order)))
        self.outcome.count(event, self._currency, self._quantities)

    def _request_hold(self, seat: g.SeatReserved, offset: int, waiting: deque[GroupInput]) -> None:
        order = seat.order
        self._pending[order] = seat
        known = self._results.get(order)
        if known is not None and known.offset > offset:
            return
        if known is not None:
            waiting.append(self._hold_input(order, known.event))
        elif order not in self._actual.seated:
            self.assumed += 1
            waiting.append(self._hold_input(order, p.PaymentEvent(hold_authorised=p.HoldAuthorised(order=order))))

    def _hold_input(self, order: str, result: p.PaymentEvent) -> GroupInput:
        seat = self._pending.pop(order)
        if result.WhichOneof("body") == "hold_declined":
            return _input(hold_declined=result.hold_declined)
        held = p.HoldAuthorised(
            order=order,
            hold=result.hold_authorised.hold or f"simulated-{order}",
            amount_minor=seat.hold_amount_minor,
            currency=seat.currency,
            capturable_until_ms=result.hold_authorised.capturable_until_ms,
        )
        return _input(hold_authorised=held)


def _hold_results(record: GroupInput) -> Iterator[tuple[str, p.PaymentEvent]]:
    """The hold results in a record, with their orders."""
    if record.WhichOneof("body") == "payment_decision":
        for event in p.PaymentDecision.FromString(record.payment_decision).events:
            if event.HasField("hold_authorised"):
                yield event.hold_authorised.order, event
            elif event.HasField("hold_declined"):
                yield event.hold_declined.order, event


def _input(**event: Any) -> GroupInput:
    decision = p.PaymentDecision(events=[p.PaymentEvent(**event)])
    return GroupInput(payment_decision=decision.SerializeToString())
