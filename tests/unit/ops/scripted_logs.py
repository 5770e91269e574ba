"""Small logs, written by hand: one group of three, one order that is cancelled, one that is refused.

Every decision is a named step. A test may change the events of a step before they are encoded, or the records
afterwards; everything else stays as a correct run writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.groups.v1.campaigns_pb2 import CLOSE_POLICY_WHEN_FULL, Campaign, Tier
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.log.v1.log_pb2 import Tick
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1 import decisions_pb2 as p
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.audit.auditor import Auditor
from ops.audit.findings import Invariant
from ops.audit.report import Report
from shared_kernel.topics import GROUP_INBOX, GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG
from tests.scenarios import group_events as ge
from tests.scenarios import payment_events as pe
from tests.scenarios.decision_log import DecisionLog
from tests.scenarios.facts import GROUP, cancel_requested, digest_of, placed
from tests.scenarios.group_events import hold_of
from tests.scenarios.statement import statement_entry

OPENED_MS = 1_000_000
DEADLINE_MS = OPENED_MS + 60_000
DAY_MS = 86_400_000
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
class ScriptedLogs:
    """Records by topic and the provider's statement by hold."""

    edits: Mapping[str, Edit] = field(default_factory=dict)
    facts: list[Line] = field(default_factory=list)
    #: The inbox of the groups.
    inputs: list[Line] = field(default_factory=list)
    groups: list[Line] = field(default_factory=list)
    inbox: list[Line] = field(default_factory=list)
    payments: list[Line] = field(default_factory=list)
    entries: dict[str, StatementEntry] = field(default_factory=dict)
    steps: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._group_log = DecisionLog(g.GroupDecision, GROUP, bytes)
        self._payment_log = DecisionLog(p.PaymentDecision, GROUP, bytes)
        #: The number of inputs up to the last decision's cause.
        self._decided = 0

    def fact(self, fact: OrderFact, campaign: Campaign | None = None) -> None:
        """Adds a fact, and its copy in the group's inbox."""
        self.facts.append(Line(len(self.facts), fact.SerializeToString()))
        self.input(GroupInput(order_fact=fact.SerializeToString(), campaign=campaign))

    def input(self, message: GroupInput) -> None:
        self.inputs.append(Line(len(self.inputs), message.SerializeToString()))

    def place(
        self, order: str, customer: str, quantity: int = 1, agreed: int = 8900, opens: Campaign | None = None
    ) -> None:
        fact = placed(
            order,
            group=GROUP,
            customer=customer,
            quantity=quantity,
            max_unit_price_minor=agreed,
            request_sha256=digest_of(order),
            opens_group=opens is not None,
        )
        self.fact(fact, opens)

    def cancel(self, order: str, customer: str) -> None:
        self.fact(cancel_requested(order, group=GROUP, customer=customer, request_id="1"))

    def decide(self, step: str, at_ms: int, *events: g.GroupEvent) -> None:
        """Adds a decision of the group, caused by the last input, and its copy in the payment inbox."""
        if len(self.inputs) == self._decided:
            self.input(GroupInput(tick=Tick()))
        self._decided = len(self.inputs)
        self.inputs[-1].timestamp = at_ms
        made = self._group_log.decide(at_ms, *self._edited(step, events), cause=len(self.inputs) - 1)
        self.groups.append(Line(len(self.groups), made))
        copied = PaymentInput(group_decision=made)
        self.inbox.append(Line(len(self.inbox), copied.SerializeToString()))

    def pay(self, step: str, at_ms: int, *events: p.PaymentEvent) -> None:
        """Adds a decision of payments, caused by a record of its inbox."""
        value = PaymentInput(outcome=ProviderOutcome()).SerializeToString()
        self.inbox.append(Line(len(self.inbox), value, timestamp=at_ms))
        made = self._payment_log.decide(at_ms, *self._edited(step, events), cause=len(self.inbox) - 1)
        self.payments.append(Line(len(self.payments), made))

    def state_hold(self, order: str, authorised: int, captured: int, released: int, refunded: int = 0) -> None:
        hold = hold_of(order)
        self.entries[hold] = statement_entry(order, hold, authorised, captured, released, refunded)

    def audit(self, *, settled: bool = True, acknowledged: tuple[tuple[str, str], ...] = ()) -> Report:
        assert self.steps >= set(self.edits), f"no such step: {set(self.edits) - self.steps}"
        auditor = Auditor(with_inputs=True)
        auditor.take(PAYMENT_LOG.name, self.payments)
        auditor.take(PAYMENT_INBOX.name, self.inbox)
        auditor.take(GROUP_LOG.name, self.groups)
        auditor.take(GROUP_INBOX.name, self.inputs)
        auditor.take(ORDERS.name, self.facts)
        return auditor.report(settled=settled, entries=list(self.entries.values()), acknowledged=acknowledged)

    def broken(self, *, settled: bool = True, acknowledged: tuple[tuple[str, str], ...] = ()) -> set[Invariant]:
        """The invariants with violations."""
        found = self.audit(settled=settled, acknowledged=acknowledged).findings
        return {violation.invariant for violation in found.violations}

    def _edited(self, step: str, events: tuple[Any, ...]) -> list[Any]:
        assert step not in self.steps, f"step {step} twice"
        self.steps.add(step)
        made = list(events)
        if step in self.edits:
            self.edits[step](made)
        return made


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
        seats_per_customer=1,
        max_quantity=99,
        rules_version=1,
    )


def campaign() -> Campaign:
    """The campaign of `terms`."""
    made = terms()
    return Campaign(
        name=f"campaigns/{made.campaign}",
        currency=made.currency,
        solo_price_minor=made.solo_price_minor,
        tiers=made.tiers,
        capacity=made.capacity,
        window=Duration(seconds=60),
        hold_window=Duration(seconds=10),
        leader_discount_minor=made.leader_discount_minor,
    )


def reserved(order: str, customer: str, at_ms: int, quantity: int = 1) -> g.GroupEvent:
    return ge.seat_reserved(
        order,
        customer,
        8900 * quantity,
        quantity=quantity,
        reserved_until_ms=at_ms + 10_000,
        hold_until_ms=DEADLINE_MS + DAY_MS,
        request_sha256=digest_of(order),
    )


def authorised(order: str, amount: int = 8900) -> p.PaymentEvent:
    return pe.hold_authorised(order, amount, attempt=1, operation=p.OPERATION_AUTHORISE)


def release(order: str, reason: g.ReleaseReason.ValueType) -> tuple[g.GroupEvent, g.GroupEvent]:
    return ge.seat_released(order, reason), ge.release_requested(order, reason)


def released_by_payments(logs: ScriptedLogs, order: str, at_ms: int) -> None:
    """Payments releases an order's hold, and the group records it."""
    logs.pay(f"void {order}", at_ms, pe.void_requested(order, 8900))
    logs.pay(f"gone {order}", at_ms, pe.voided(order, 8900), pe.payment_released(order))
    logs.decide(f"back {order}", at_ms, ge.member_released(order))
    logs.state_hold(order, 8900, 0, 8900)


def opening(logs: ScriptedLogs) -> None:
    """Ann opens the group, Bob joins, both are confirmed."""
    logs.place("a", "ann", quantity=2, opens=campaign())
    opened = ge.opened("a", terms(), DEADLINE_MS, leader_customer="ann")
    logs.decide("open", OPENED_MS, opened, reserved("a", "ann", OPENED_MS, 2))
    logs.pay("ask a", OPENED_MS, pe.hold_requested("a", 17800))
    logs.pay("hold a", OPENED_MS + 1, authorised("a", 17800))
    logs.decide("confirm a", OPENED_MS + 2, ge.member_confirmed("a", 1))
    logs.place("b", "bob")
    logs.decide("join b", OPENED_MS + 10, reserved("b", "bob", OPENED_MS + 10))
    logs.pay("ask b", OPENED_MS + 10, pe.hold_requested("b", 8900))
    logs.pay("hold b", OPENED_MS + 11, authorised("b"))
    logs.decide("confirm b", OPENED_MS + 12, ge.member_confirmed("b", 2), ge.tier_reached(2, 8900))


def completed_group(edits: Mapping[str, Edit] | None = None) -> ScriptedLogs:
    """Ann, Bob and Dan pay ¥79.00 per piece, Ann ¥1.00 less. Cid cancels before; Eve is too late."""
    logs = ScriptedLogs(edits or {})
    opening(logs)
    logs.place("c", "cid")
    logs.decide("join c", OPENED_MS + 20, reserved("c", "cid", OPENED_MS + 20))
    logs.pay("ask c", OPENED_MS + 20, pe.hold_requested("c", 8900))
    logs.pay("hold c", OPENED_MS + 21, authorised("c"))
    logs.cancel("c", "cid")
    logs.decide("leave c", OPENED_MS + 22, *release("c", g.RELEASE_REASON_CANCELLED))
    released_by_payments(logs, "c", OPENED_MS + 23)
    logs.place("d", "dan")
    logs.decide("join d", OPENED_MS + 30, reserved("d", "dan", OPENED_MS + 30))
    logs.pay("ask d", OPENED_MS + 30, pe.hold_requested("d", 8900))
    logs.pay("hold d", OPENED_MS + 31, authorised("d"))
    completed = ge.completed("a", "b", "d", tier_members=3, leader_order="a", house_filled=False)
    logs.decide(
        "complete",
        OPENED_MS + 32,
        ge.member_confirmed("d", 3),
        ge.tier_reached(3, 7900),
        completed,
        ge.settlement_requested("a", 15600),
        ge.settlement_requested("b", 7900),
        ge.settlement_requested("d", 7900),
    )
    logs.place("e", "eve")
    refused = ge.seat_refused("e", g.REFUSAL_REASON_GROUP_COMPLETED, customer="eve", request_sha256=digest_of("e"))
    logs.decide("refuse e", OPENED_MS + 40, refused)
    amounts = {"a": (17800, 15600), "b": (8900, 7900), "d": (8900, 7900)}
    logs.pay(
        "take",
        OPENED_MS + 41,
        *(pe.capture_requested(order, taken) for order, (_, taken) in amounts.items()),
    )
    for order, (held, taken) in amounts.items():
        logs.pay(f"capture {order}", OPENED_MS + 42, pe.captured(order, taken, held - taken))
        logs.state_hold(order, held, taken, held - taken)
        events = [ge.member_settled(order, taken)]
        if order == "d":
            events.append(ge.settled(3, 31400))
        logs.decide(f"settle {order}", OPENED_MS + 43, *events)
    return logs


def expired_group(edits: Mapping[str, Edit] | None = None) -> ScriptedLogs:
    """Bob cancels. At the deadline Ann is the only member and is released."""
    logs = ScriptedLogs(edits or {})
    opening(logs)
    logs.cancel("b", "bob")
    logs.decide("leave b", OPENED_MS + 20, *release("b", g.RELEASE_REASON_CANCELLED))
    released_by_payments(logs, "b", OPENED_MS + 21)
    logs.decide(
        "expire",
        DEADLINE_MS + 5,
        ge.expired(1),
        *release("a", g.RELEASE_REASON_GROUP_EXPIRED),
    )
    logs.pay(
        "void a",
        DEADLINE_MS + 6,
        pe.void_requested("a", 17800),
    )
    logs.pay("gone a", DEADLINE_MS + 7, pe.voided("a", 17800), pe.payment_released("a"))
    logs.decide("back a", DEADLINE_MS + 8, ge.member_released("a"))
    logs.state_hold("a", 17800, 0, 17800)
    return logs
