"""A small log, written by hand: one group of three, one order that is cancelled, one that is refused.

Every decision is a named step. A test may change the events of a step before they are encoded, or the records
afterwards; everything else stays as a correct run writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.groups.v1.campaigns_pb2 import CLOSE_POLICY_WHEN_FULL, Tier
from groupbuy.orders.v1.facts_pb2 import OrderCancelRequested, OrderFact, OrderPlaced
from groupbuy.payments.v1 import decisions_pb2 as p
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.audit.auditor import Auditor
from ops.audit.findings import Invariant
from ops.audit.report import Report
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG

GROUP = "9f6c1c5e-0000-4000-8000-000000000001"
OPENED_MS = 1_000_000
DEADLINE_MS = OPENED_MS + 60_000
Edit = Callable[[list[Any]], None]


@dataclass
class Line:
    """A record as the audit reads it."""

    offset: int
    value: bytes
    key: bytes = GROUP.encode()
    partition: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()
    #: Milliseconds since the epoch.
    timestamp: int = 0


@dataclass
class Story:
    """Records by topic and the provider's statement by hold."""

    edits: Mapping[str, Edit] = field(default_factory=dict)
    facts: list[Line] = field(default_factory=list)
    groups: list[Line] = field(default_factory=list)
    inbox: list[Line] = field(default_factory=list)
    payments: list[Line] = field(default_factory=list)
    entries: dict[str, StatementEntry] = field(default_factory=dict)
    played: set[str] = field(default_factory=set)

    def fact(self, order: str, customer: str, **body: Any) -> None:
        fact = OrderFact(order=order, group=GROUP, customer=customer, **body)
        self.facts.append(Line(len(self.facts), fact.SerializeToString()))

    def place(self, order: str, customer: str, quantity: int = 1, agreed: int = 8900) -> None:
        placed = OrderPlaced(
            quantity=quantity, currency="CNY", max_unit_price_minor=agreed, request_sha256=request(order)
        )
        self.fact(order, customer, placed=placed)

    def cancel(self, order: str, customer: str) -> None:
        self.fact(order, customer, cancel_requested=OrderCancelRequested(request_id="1"))

    def decide(self, step: str, at_ms: int, *events: g.GroupEvent) -> None:
        """Adds a decision of the group, and its copy in the payment inbox."""
        made = g.GroupDecision(
            group=GROUP,
            version=len(self.groups) + 1,
            cause=10 * (len(self.groups) + 1),
            time_ms=at_ms,
            previous_sha256=digest(self.groups),
            events=self._edited(step, events),
        )
        self.groups.append(Line(len(self.groups), made.SerializeToString()))
        copied = PaymentInput(group_decision=made.SerializeToString())
        self.inbox.append(Line(len(self.inbox), copied.SerializeToString()))

    def pay(self, step: str, at_ms: int, *events: p.PaymentEvent) -> None:
        """Adds a decision of payments, caused by a record of its inbox."""
        self.inbox.append(Line(len(self.inbox), PaymentInput(outcome=ProviderOutcome()).SerializeToString()))
        made = p.PaymentDecision(
            group=GROUP,
            version=len(self.payments) + 1,
            cause=len(self.inbox) - 1,
            time_ms=at_ms,
            previous_sha256=digest(self.payments),
            events=self._edited(step, events),
        )
        self.payments.append(Line(len(self.payments), made.SerializeToString()))

    def books(self, order: str, authorised: int, captured: int, released: int, refunded: int = 0) -> None:
        self.entries[f"hold-{order}"] = StatementEntry(
            hold=f"hold-{order}",
            order=order,
            group=GROUP,
            currency="CNY",
            authorised_minor=authorised,
            captured_minor=captured,
            released_minor=released,
            refunded_minor=refunded,
            open_minor=authorised - captured - released,
            captures=1 if captured else 0,
        )

    def audit(self, *, settled: bool = True, acknowledged: tuple[tuple[str, str], ...] = ()) -> Report:
        assert self.played >= set(self.edits), f"no such step: {set(self.edits) - self.played}"
        auditor = Auditor()
        auditor.take(PAYMENT_LOG.name, self.payments)
        auditor.take(PAYMENT_INBOX.name, self.inbox)
        auditor.take(GROUP_LOG.name, self.groups)
        auditor.take(ORDERS.name, self.facts)
        return auditor.report(settled=settled, entries=list(self.entries.values()), acknowledged=acknowledged)

    def broken(self, *, settled: bool = True, acknowledged: tuple[tuple[str, str], ...] = ()) -> set[Invariant]:
        """The invariants with violations."""
        found = self.audit(settled=settled, acknowledged=acknowledged).findings
        return {violation.invariant for violation in found.violations}

    def _edited(self, step: str, events: tuple[Any, ...]) -> list[Any]:
        assert step not in self.played, f"step {step} twice"
        self.played.add(step)
        made = list(events)
        if step in self.edits:
            self.edits[step](made)
        return made


def digest(lines: list[Line]) -> bytes:
    return sha256(lines[-1].value).digest() if lines else b""


def request(order: str) -> bytes:
    return sha256(order.encode()).digest()


def terms() -> g.Terms:
    return g.Terms(
        campaign="mug",
        currency="CNY",
        solo_price_minor=9900,
        tiers=[Tier(members=2, unit_price_minor=8900), Tier(members=3, unit_price_minor=7900)],
        capacity=3,
        window_ms=60_000,
        hold_window_ms=10_000,
        close_policy=CLOSE_POLICY_WHEN_FULL,
        leader_discount_minor=100,
        rules_version=1,
    )


def reserved(order: str, customer: str, at_ms: int, quantity: int = 1) -> g.GroupEvent:
    return g.GroupEvent(
        seat_reserved=g.SeatReserved(
            order=order,
            customer=customer,
            quantity=quantity,
            hold_amount_minor=8900 * quantity,
            currency="CNY",
            payment_method="card_ok",
            reserved_until_ms=at_ms + 10_000,
            request_sha256=request(order),
        )
    )


def confirmed(order: str, members: int) -> g.GroupEvent:
    return g.GroupEvent(member_confirmed=g.MemberConfirmed(order=order, hold=f"hold-{order}", members=members))


def call(order: str, operation: p.Operation.ValueType, amount: int) -> p.ProviderCall:
    hold = "" if operation == p.OPERATION_AUTHORISE else f"hold-{order}"
    return p.ProviderCall(order=order, operation=operation, attempt=1, amount_minor=amount, currency="CNY", hold=hold)


def asked(order: str, amount: int = 8900) -> p.PaymentEvent:
    return p.PaymentEvent(hold_requested=p.HoldRequested(call=call(order, p.OPERATION_AUTHORISE, amount)))


def authorised(order: str, amount: int = 8900) -> p.PaymentEvent:
    return p.PaymentEvent(
        hold_authorised=p.HoldAuthorised(
            order=order,
            hold=f"hold-{order}",
            amount_minor=amount,
            currency="CNY",
            attempt=1,
            operation=p.OPERATION_AUTHORISE,
        )
    )


def charge(order: str, amount: int) -> g.GroupEvent:
    return g.GroupEvent(
        settlement_requested=g.SettlementRequested(
            order=order, hold=f"hold-{order}", amount_minor=amount, currency="CNY"
        )
    )


def captured(order: str, amount: int, rest: int) -> p.PaymentEvent:
    return p.PaymentEvent(
        captured=p.Captured(order=order, hold=f"hold-{order}", amount_minor=amount, released_minor=rest, currency="CNY")
    )


def release(order: str, reason: g.ReleaseReason.ValueType) -> tuple[g.GroupEvent, g.GroupEvent]:
    return (
        g.GroupEvent(seat_released=g.SeatReleased(order=order, reason=reason)),
        g.GroupEvent(release_requested=g.ReleaseRequested(order=order, reason=reason)),
    )


def released_by_payments(story: Story, order: str, at_ms: int) -> None:
    """Payments releases an order's hold, and the group records it."""
    story.pay(
        f"void {order}", at_ms, p.PaymentEvent(void_requested=p.VoidRequested(call=call(order, p.OPERATION_VOID, 8900)))
    )
    voided = p.Voided(order=order, hold=f"hold-{order}", amount_minor=8900, currency="CNY")
    gone = p.PaymentReleased(order=order)
    story.pay(f"gone {order}", at_ms, p.PaymentEvent(voided=voided), p.PaymentEvent(payment_released=gone))
    story.decide(f"back {order}", at_ms, g.GroupEvent(member_released=g.MemberReleased(order=order)))
    story.books(order, 8900, 0, 8900)


def opening(story: Story) -> None:
    """Ann opens the group, Bob joins, both are confirmed."""
    story.place("a", "ann", quantity=2)
    opened = g.GroupOpened(terms=terms(), leader_order="a", leader_customer="ann", deadline_ms=DEADLINE_MS)
    story.decide("open", OPENED_MS, g.GroupEvent(opened=opened), reserved("a", "ann", OPENED_MS, 2))
    story.pay("ask a", OPENED_MS, asked("a", 17800))
    story.pay("hold a", OPENED_MS + 1, authorised("a", 17800))
    story.decide("confirm a", OPENED_MS + 2, confirmed("a", 1))
    story.place("b", "bob")
    story.decide("join b", OPENED_MS + 10, reserved("b", "bob", OPENED_MS + 10))
    story.pay("ask b", OPENED_MS + 10, asked("b"))
    story.pay("hold b", OPENED_MS + 11, authorised("b"))
    reached = g.TierReached(members=2, unit_price_minor=8900)
    story.decide("confirm b", OPENED_MS + 12, confirmed("b", 2), g.GroupEvent(tier_reached=reached))


def completed_group(edits: Mapping[str, Edit] | None = None) -> Story:
    """Ann, Bob and Dan pay ¥79.00 per piece, Ann ¥1.00 less. Cid cancels before; Eve is too late."""
    story = Story(edits or {})
    opening(story)
    story.place("c", "cid")
    story.decide("join c", OPENED_MS + 20, reserved("c", "cid", OPENED_MS + 20))
    story.pay("ask c", OPENED_MS + 20, asked("c"))
    story.pay("hold c", OPENED_MS + 21, authorised("c"))
    story.cancel("c", "cid")
    story.decide("leave c", OPENED_MS + 22, *release("c", g.RELEASE_REASON_CANCELLED))
    released_by_payments(story, "c", OPENED_MS + 23)
    story.place("d", "dan")
    story.decide("join d", OPENED_MS + 30, reserved("d", "dan", OPENED_MS + 30))
    story.pay("ask d", OPENED_MS + 30, asked("d"))
    story.pay("hold d", OPENED_MS + 31, authorised("d"))
    completed = g.GroupCompleted(
        orders=["a", "b", "d"], tier_members=3, unit_price_minor=7900, leader_order="a", house_filled=False
    )
    story.decide(
        "complete",
        OPENED_MS + 32,
        confirmed("d", 3),
        g.GroupEvent(tier_reached=g.TierReached(members=3, unit_price_minor=7900)),
        g.GroupEvent(completed=completed),
        charge("a", 15600),
        charge("b", 7900),
        charge("d", 7900),
    )
    story.place("e", "eve")
    refused = g.SeatRefused(
        order="e", customer="eve", reason=g.REFUSAL_REASON_GROUP_COMPLETED, request_sha256=request("e")
    )
    story.decide("refuse e", OPENED_MS + 40, g.GroupEvent(seat_refused=refused))
    amounts = {"a": (17800, 15600), "b": (8900, 7900), "d": (8900, 7900)}
    story.pay(
        "take",
        OPENED_MS + 41,
        *(
            p.PaymentEvent(capture_requested=p.CaptureRequested(call=call(order, p.OPERATION_CAPTURE, taken)))
            for order, (_, taken) in amounts.items()
        ),
    )
    for order, (held, taken) in amounts.items():
        story.pay(f"capture {order}", OPENED_MS + 42, captured(order, taken, held - taken))
        story.books(order, held, taken, held - taken)
        events = [g.GroupEvent(member_settled=g.MemberSettled(order=order, amount_minor=taken))]
        if order == "d":
            events.append(g.GroupEvent(settled=g.GroupSettled(settled=3, captured_minor=31400)))
        story.decide(f"settle {order}", OPENED_MS + 43, *events)
    return story


def expired_group(edits: Mapping[str, Edit] | None = None) -> Story:
    """Bob cancels. At the deadline Ann is the only member and is released."""
    story = Story(edits or {})
    opening(story)
    story.cancel("b", "bob")
    story.decide("leave b", OPENED_MS + 20, *release("b", g.RELEASE_REASON_CANCELLED))
    released_by_payments(story, "b", OPENED_MS + 21)
    story.decide(
        "expire",
        DEADLINE_MS + 5,
        g.GroupEvent(expired=g.GroupExpired(members=1)),
        *release("a", g.RELEASE_REASON_GROUP_EXPIRED),
    )
    story.pay(
        "void a",
        DEADLINE_MS + 6,
        p.PaymentEvent(void_requested=p.VoidRequested(call=call("a", p.OPERATION_VOID, 17800))),
    )
    voided = p.Voided(order="a", hold="hold-a", amount_minor=17800, currency="CNY")
    gone = p.PaymentReleased(order="a")
    story.pay("gone a", DEADLINE_MS + 7, p.PaymentEvent(voided=voided), p.PaymentEvent(payment_released=gone))
    story.decide("back a", DEADLINE_MS + 8, g.GroupEvent(member_released=g.MemberReleased(order="a")))
    story.books("a", 17800, 0, 17800)
    return story
