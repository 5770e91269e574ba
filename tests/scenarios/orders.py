"""Scenarios of the orders service: a group's history as the records of three logs, as the services write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1 import decisions_pb2 as p

from services.orders.domain.fold import OrdersFold
from services.orders.domain.model import GroupOrders
from tests.scenarios import facts
from tests.scenarios import group_events as ge
from tests.scenarios import payment_events as pe
from tests.scenarios.decision_log import DecisionLog
from tests.scenarios.facts import GROUP, digest_of

UNIT_PRICE, QUANTITY = 8_900, 2
HELD, CHARGED = QUANTITY * UNIT_PRICE, 15_800


@dataclass(frozen=True)
class Fact:
    fact: OrderFact
    time_ms: int

    def fold(self, state: GroupOrders) -> None:
        OrdersFold().fold_fact(state, self.fact, self.time_ms)


@dataclass(frozen=True)
class Decision:
    value: bytes

    def fold(self, state: GroupOrders) -> None:
        OrdersFold().fold_group(state, g.GroupDecision.FromString(self.value), self.value)


@dataclass(frozen=True)
class Payment:
    value: bytes

    def fold(self, state: GroupOrders) -> None:
        OrdersFold().fold_payment(state, p.PaymentDecision.FromString(self.value), self.value)


Record = Fact | Decision | Payment


def group_log(group: str = GROUP) -> DecisionLog[Decision]:
    return DecisionLog(g.GroupDecision, group, Decision)


def payment_log(group: str = GROUP) -> DecisionLog[Payment]:
    return DecisionLog(p.PaymentDecision, group, Payment)


# Records and events with the amounts of these scenarios ---------------------------------------------------------------


def customer_of(order: str) -> str:
    return f"customer-{order}"


def placed(order: str, time_ms: int = 1_000, *, opens: bool = False, **changes: Any) -> Fact:
    fields: dict[str, Any] = {
        "opens_group": opens,
        "quantity": QUANTITY,
        "max_unit_price_minor": UNIT_PRICE,
        "request_sha256": digest_of(order),
    }
    return Fact(facts.placed(order, group=GROUP, customer=customer_of(order), **fields | changes), time_ms)


def cancel_requested(order: str, time_ms: int = 2_000) -> Fact:
    fact = facts.cancel_requested(
        order, group=GROUP, customer=customer_of(order), request_id="r", reason="changed my mind"
    )
    return Fact(fact, time_ms)


def opened(leader: str, *, solo: bool = False) -> g.GroupEvent:
    return ge.opened(leader, g.Terms(campaign="mug", currency="CNY", solo=solo), 90_000)


def reserved(order: str) -> g.GroupEvent:
    return ge.seat_reserved(order, customer_of(order), HELD, quantity=QUANTITY, request_sha256=digest_of(order))


def waitlisted(order: str) -> g.GroupEvent:
    return ge.seat_waitlisted(order, customer_of(order), quantity=QUANTITY, request_sha256=digest_of(order))


def refused(order: str, reason: g.RefusalReason.ValueType = g.REFUSAL_REASON_GROUP_FULL) -> g.GroupEvent:
    return ge.seat_refused(order, reason, customer=customer_of(order), request_sha256=digest_of(order))


def settled(order: str) -> g.GroupEvent:
    return ge.member_settled(order, CHARGED)


def authorised(order: str, amount_minor: int = HELD, *, sale: bool = False) -> p.PaymentEvent:
    operation = p.OPERATION_SALE if sale else p.OPERATION_AUTHORISE
    return pe.hold_authorised(order, amount_minor, operation=operation)


def captured(order: str) -> p.PaymentEvent:
    return pe.captured(order, CHARGED, HELD - CHARGED)


def voided(order: str, amount_minor: int = HELD, hold: str = "") -> p.PaymentEvent:
    return pe.voided(order, amount_minor, hold)


def hold_lapsed(order: str) -> p.PaymentEvent:
    return pe.hold_lapsed(order, HELD)


def reserves(fact: OrderFact, quantity: int = QUANTITY) -> list[g.GroupEvent]:
    """The decision that reserves a seat for a placed order. An order that opens a group also opens it."""
    digest = fact.placed.request_sha256
    seat = ge.seat_reserved(fact.order, fact.customer, 0, quantity=quantity, request_sha256=digest)
    return [opened(fact.order), seat] if fact.placed.opens_group else [seat]


# Histories ------------------------------------------------------------------------------------------------------------


class History(NamedTuple):
    """The records of each topic, in the order of the topic."""

    facts: list[Fact]
    decisions: list[Decision]
    payments: list[Payment]


class HistoryBuilder:
    """The three logs of a group."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.group = group_log()
        self.payments = payment_log()

    def done(self) -> History:
        return History(self.facts, self.group.records, self.payments.records)


def two_settle_and_one_is_refunded() -> History:
    t = HistoryBuilder()
    t.facts += [placed("a", 1000, opens=True), placed("b", 1100), placed("a", 1150)]
    t.group.decide(1010, opened("a"), reserved("a"))
    t.group.decide(1110, reserved("b"))
    t.payments.decide(1020, pe.action_required("a"))
    t.payments.decide(1040, authorised("a"))
    t.payments.decide(1120, authorised("b"))
    t.group.decide(1050, ge.member_confirmed("a"))
    t.group.decide(1130, ge.member_confirmed("b"), ge.completed("a", "b"))
    t.payments.decide(1200, captured("a"))
    t.payments.decide(1210, captured("b"))
    t.group.decide(1220, settled("a"))
    t.group.decide(1230, settled("b"))
    t.payments.decide(1300, pe.refunded("b", 5800, "r1"))
    t.payments.decide(1310, pe.refunded("b", 10000, "r2"))
    return t.done()


def a_group_expires_short() -> History:
    t = HistoryBuilder()
    t.facts += [placed("a", opens=True), placed("b")]
    t.group.decide(1010, opened("a"), reserved("a"))
    t.group.decide(1011, reserved("b"))
    t.payments.decide(1020, authorised("a"))
    t.group.decide(1030, ge.member_confirmed("a"))
    t.group.decide(1040, ge.seat_released("b", g.RELEASE_REASON_LAPSED))
    t.group.decide(9000, ge.expired(1), ge.seat_released("a", g.RELEASE_REASON_GROUP_EXPIRED))
    t.payments.decide(9010, voided("a"), pe.payment_released("a"))
    t.payments.decide(9020, pe.payment_released("b"))
    t.group.decide(9030, ge.member_released("a"))
    t.group.decide(9040, ge.member_released("b"))
    return t.done()


def a_joiner_is_refused_and_another_waits() -> History:
    t = HistoryBuilder()
    t.facts += [placed("a", opens=True), placed("b"), placed("c"), cancel_requested("b")]
    t.group.decide(1010, opened("a"), reserved("a"))
    t.group.decide(1020, refused("b"))
    t.group.decide(1030, waitlisted("c"))
    t.group.decide(1040, ge.seat_released("a", g.RELEASE_REASON_DECLINED), reserved("c"))
    t.payments.decide(1035, pe.hold_declined("a"))
    t.payments.decide(1050, authorised("c"))
    t.group.decide(1060, ge.member_confirmed("c"))
    return t.done()


def a_sale_settles_and_its_excess_is_refunded() -> History:
    t = HistoryBuilder()
    t.facts += [placed("a", opens=True, solo=True)]
    t.group.decide(1010, opened("a", solo=True), reserved("a"))
    t.payments.decide(1020, authorised("a", sale=True))
    t.group.decide(1030, ge.member_confirmed("a"), ge.completed("a"))
    t.payments.decide(1040, captured("a"))
    t.payments.decide(1050, pe.refunded("a", 2000))
    t.group.decide(1060, settled("a"), ge.cancel_refused("a"))
    return t.done()


def a_capture_is_declined() -> History:
    t = HistoryBuilder()
    t.facts += [placed("a", opens=True), cancel_requested("a")]
    t.group.decide(1010, opened("a"), reserved("a"))
    t.payments.decide(1020, authorised("a"))
    t.group.decide(1030, ge.member_confirmed("a"), ge.completed("a"))
    t.group.decide(1035, ge.cancel_refused("a"))
    t.payments.decide(1040, pe.capture_declined("a", hold=ge.hold_of("a")))
    t.payments.decide(1050, voided("a"))
    t.group.decide(1060, ge.member_declined("a"))
    return t.done()


def funds_arrive_for_a_cancelled_order() -> History:
    t = HistoryBuilder()
    t.facts += [placed("a", opens=True), cancel_requested("a"), placed("a", 3000, quantity=5)]
    t.group.decide(1010, opened("a"), reserved("a"))
    t.group.decide(2010, ge.seat_released("a", g.RELEASE_REASON_CANCELLED))
    t.payments.decide(2020, authorised("a"), authorised("unknown", 500))
    t.payments.decide(2030, hold_lapsed("a"), pe.payment_released("a"))
    t.group.decide(2040, ge.member_released("a"))
    return t.done()


HISTORIES: list[Callable[[], History]] = [
    two_settle_and_one_is_refunded,
    a_group_expires_short,
    a_joiner_is_refused_and_another_waits,
    a_sale_settles_and_its_excess_is_refunded,
    a_capture_is_declined,
    funds_arrive_for_a_cancelled_order,
]
