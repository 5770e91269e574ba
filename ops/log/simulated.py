"""A group's inbox decided under other terms: what the group would have become, had the shoppers done the same.

Orders, cancels and times are those of the log. Money answers as it did: whoever paid, pays what is asked now; a card
that was refused is refused again; whoever never paid never pays. Nobody knows of an order that was turned away and now
has a seat: it is taken to pay at once, and counted. Must never write anything: it supposes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.payments.v1 import decisions_pb2 as p

from eventlog.core.aggregate import Aggregate, decide
from services.groups.domain.domain import GroupDomain
from services.groups.domain.model import State

#: Gives the campaign as it is supposed to have been.
Change = Callable[[Campaign], Campaign]

_LET_GO = frozenset({g.RELEASE_REASON_GROUP_EXPIRED, g.RELEASE_REASON_GROUP_CANCELLED, g.RELEASE_REASON_FAULTED})


@dataclass(slots=True)
class Outcome:
    """What became of some groups. Money in minor units by currency."""

    opened: int = 0
    completed: int = 0
    expired: int = 0
    cancelled: int = 0
    refused: int = 0
    settled: int = 0
    let_go: int = 0
    captured: Counter[str] = field(default_factory=Counter)

    def hear(self, event: g.GroupEvent, currency: str) -> None:
        """Counts one event of a group."""
        body = event.WhichOneof("body")
        if body == "opened":
            self.opened += 1
        elif body == "completed":
            self.completed += 1
        elif body == "expired":
            self.expired += 1
        elif body == "cancelled":
            self.cancelled += 1
        elif body == "seat_refused":
            self.refused += 1
        elif body == "member_settled":
            self.settled += 1
            self.captured[currency] += event.member_settled.amount_minor
        elif body == "seat_released" and event.seat_released.reason in _LET_GO:
            self.let_go += 1

    def add(self, other: Outcome) -> None:
        """Adds another's counts."""
        for name in ("opened", "completed", "expired", "cancelled", "refused", "settled", "let_go"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.captured += other.captured


class Actual:
    """What the decision log says of one group."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        #: Orders that had a seat; and those of them that could not be charged.
        self.seated: set[str] = set()
        self.failed: set[str] = set()
        self.version = 0
        self._currency = ""

    def take(self, decision: g.GroupDecision) -> None:
        """Takes the next decision; a repeat is dropped."""
        if decision.version <= self.version:
            return
        self.version = decision.version
        for event in decision.events:
            body = event.WhichOneof("body")
            if body == "opened":
                self._currency = event.opened.terms.currency
            elif body == "seat_reserved":
                self.seated.add(event.seat_reserved.order)
            elif body == "member_failed":
                self.failed.add(event.member_failed.order)
            self.outcome.hear(event, self._currency)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a purse said of an order's hold, and where it stands in the inbox."""

    offset: int
    event: p.PaymentEvent


class Simulated:
    """One group, decided anew. Give it the records of its inbox, in order, then `finish`."""

    def __init__(self, key: str, real: Actual, change: Change) -> None:
        self.outcome = Outcome()
        #: Orders of which nobody knows whether they would have paid.
        self.assumed = 0
        self._real = real
        self._change = change
        self._domain = GroupDomain()
        self._aggregate: Aggregate[State] = Aggregate(key, self._domain.initial(key))
        self._answers: dict[str, _Answer] = {}
        #: Money that a seat waits for, by order.
        self._asked: dict[str, g.SeatReserved] = {}
        #: Inputs are numbered anew: answers come between those of the log.
        self._number = 0
        self._currency = ""

    def simulate(self, offset: int, record: GroupInput) -> None:
        """Learns beforehand what the log says of holds: a seat may be had earlier or later than it was."""
        for order, event in _of_holds(record):
            self._answers.setdefault(order, _Answer(offset, event))

    def take(self, offset: int, at_ms: int, record: GroupInput) -> None:
        """Decides one record of the log."""
        if record.WhichOneof("body") == "payment_decision":
            for order, event in _of_holds(record):
                if self._answers[order].offset == offset and order in self._asked:
                    self._decide([self._held_or_not(order, event)], offset, at_ms)
            return
        if record.HasField("campaign"):
            changed = GroupInput()
            changed.CopyFrom(record)
            changed.campaign.CopyFrom(self._change(record.campaign))
            record = changed
        self._decide([record], offset, at_ms)

    def finish(self, end_ms: int) -> None:
        """Lets time pass up to the end of the log."""
        while (due_ms := self._domain.due(self._aggregate.state)) is not None and due_ms <= end_ms:
            self._decide([GroupInput.FromString(self._domain.tick(due_ms))], 1 << 62, due_ms)

    def _decide(self, records: Iterable[GroupInput], offset: int, at_ms: int) -> None:
        """Decides records, and what is answered to them, all at one time. `offset`: where the log stands."""
        waiting = deque(records)
        while waiting:
            value = waiting.popleft().SerializeToString()
            self._number += 1
            sealed = decide(self._domain, self._aggregate, value, self._number, at_ms)
            if sealed is not None:
                for event in g.GroupDecision.FromString(sealed).events:
                    self._hear(event, offset, waiting)

    def _hear(self, event: g.GroupEvent, offset: int, waiting: deque[GroupInput]) -> None:
        body = event.WhichOneof("body")
        if body == "opened":
            self._currency = event.opened.terms.currency
        elif body == "seat_reserved":
            self._ask(event.seat_reserved, offset, waiting)
        elif body == "settlement_requested":
            asked = event.settlement_requested
            if asked.order in self._real.failed:
                waiting.append(_say(capture_declined=p.CaptureDeclined(order=asked.order, reason="as it was")))
            else:
                captured = p.Captured(
                    order=asked.order, hold=asked.hold, amount_minor=asked.amount_minor, currency=asked.currency
                )
                waiting.append(_say(captured=captured))
        elif body == "release_requested":
            waiting.append(_say(payment_released=p.PaymentReleased(order=event.release_requested.order)))
        self.outcome.hear(event, self._currency)

    def _ask(self, seat: g.SeatReserved, offset: int, waiting: deque[GroupInput]) -> None:
        order = seat.order
        self._asked[order] = seat
        known = self._answers.get(order)
        if known is not None and known.offset > offset:
            return
        if known is not None:
            waiting.append(self._held_or_not(order, known.event))
        elif order not in self._real.seated:
            self.assumed += 1
            waiting.append(self._held_or_not(order, p.PaymentEvent(hold_authorised=p.HoldAuthorised(order=order))))

    def _held_or_not(self, order: str, said: p.PaymentEvent) -> GroupInput:
        seat = self._asked.pop(order)
        if said.WhichOneof("body") == "hold_declined":
            return _say(hold_declined=said.hold_declined)
        held = p.HoldAuthorised(
            order=order,
            hold=said.hold_authorised.hold or f"supposed-{order}",
            amount_minor=seat.hold_amount_minor,
            currency=seat.currency,
            capturable_until_ms=said.hold_authorised.capturable_until_ms,
        )
        return _say(hold_authorised=held)


def _of_holds(record: GroupInput) -> Iterator[tuple[str, p.PaymentEvent]]:
    """What a purse says of holds, and of which order."""
    if record.WhichOneof("body") == "payment_decision":
        for event in p.PaymentDecision.FromString(record.payment_decision).events:
            if event.HasField("hold_authorised"):
                yield event.hold_authorised.order, event
            elif event.HasField("hold_declined"):
                yield event.hold_declined.order, event


def _say(**event: Any) -> GroupInput:
    decision = p.PaymentDecision(events=[p.PaymentEvent(**event)])
    return GroupInput(payment_decision=decision.SerializeToString())
