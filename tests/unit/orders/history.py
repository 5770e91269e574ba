"""Builders of order facts and chained decisions, as the services write them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.orders.v1.facts_pb2 import OrderCancelRequested, OrderFact, OrderPlaced
from groupbuy.payments.v1 import decisions_pb2 as p

from services.orders.domain.fold import OrdersFold
from services.orders.domain.model import GroupOrders

GROUP = "0b6a0c2e-0f54-5a4e-9a59-3f3a5f1f7a10"
TIERS_PRICE = 8900


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


def placed(order: str, time_ms: int = 1000, *, opens: bool = False, solo: bool = False, **more: object) -> Fact:
    fields: dict[str, object] = {
        "campaign": "mug",
        "opens_group": opens,
        "solo": solo,
        "quantity": 2,
        "currency": "CNY",
        "max_unit_price_minor": TIERS_PRICE,
        "payment_method": "card_ok",
        "request_sha256": digest_of(order),
    }
    body = OrderPlaced(**{**fields, **more})  # type: ignore[arg-type] # fields by name
    return Fact(OrderFact(order=order, group=GROUP, customer=f"customer-{order}", placed=body), time_ms)


def cancel_requested(order: str, time_ms: int = 2000) -> Fact:
    body = OrderCancelRequested(request_id="r", reason="changed my mind")
    return Fact(OrderFact(order=order, group=GROUP, customer=f"customer-{order}", cancel_requested=body), time_ms)


def digest_of(order: str) -> bytes:
    return sha256(order.encode()).digest()


class GroupLog:
    """Writes the decisions of a group in order."""

    def __init__(self, group: str = GROUP) -> None:
        self.group = group
        self.records: list[Decision] = []
        self._digest = b""

    def decide(self, time_ms: int, *events: g.GroupEvent) -> Decision:
        version = len(self.records) + 1
        value = g.GroupDecision(
            group=self.group,
            version=version,
            cause=version,
            time_ms=time_ms,
            previous_sha256=self._digest,
            events=events,
        ).SerializeToString()
        self._digest = sha256(value).digest()
        self.records.append(Decision(value))
        return self.records[-1]


class PurseLog:
    """Writes the payment decisions of a group in order."""

    def __init__(self, group: str = GROUP) -> None:
        self.group = group
        self.records: list[Payment] = []
        self._digest = b""

    def decide(self, time_ms: int, *events: p.PaymentEvent) -> Payment:
        version = len(self.records) + 1
        value = p.PaymentDecision(
            group=self.group,
            version=version,
            cause=version,
            time_ms=time_ms,
            previous_sha256=self._digest,
            events=events,
        ).SerializeToString()
        self._digest = sha256(value).digest()
        self.records.append(Payment(value))
        return self.records[-1]


# Events of a group ------------------------------------------------------------------------------------------------


def opened(leader: str, *, solo: bool = False) -> g.GroupEvent:
    terms = g.Terms(campaign="mug", currency="CNY", solo=solo)
    return g.GroupEvent(opened=g.GroupOpened(terms=terms, leader_order=leader, deadline_ms=90_000))


def reserved(order: str) -> g.GroupEvent:
    return g.GroupEvent(
        seat_reserved=g.SeatReserved(
            order=order,
            customer=f"customer-{order}",
            quantity=2,
            hold_amount_minor=2 * TIERS_PRICE,
            currency="CNY",
            payment_method="card_ok",
            request_sha256=digest_of(order),
        )
    )


def waitlisted(order: str) -> g.GroupEvent:
    return g.GroupEvent(
        seat_waitlisted=g.SeatWaitlisted(
            order=order, customer=f"customer-{order}", quantity=2, request_sha256=digest_of(order)
        )
    )


def refused(order: str, reason: g.RefusalReason.ValueType = g.REFUSAL_REASON_GROUP_FULL) -> g.GroupEvent:
    return g.GroupEvent(
        seat_refused=g.SeatRefused(
            order=order, customer=f"customer-{order}", reason=reason, request_sha256=digest_of(order)
        )
    )


def confirmed(order: str) -> g.GroupEvent:
    return g.GroupEvent(member_confirmed=g.MemberConfirmed(order=order, hold=f"h-{order}", members=1))


def seat_released(order: str, reason: g.ReleaseReason.ValueType) -> g.GroupEvent:
    return g.GroupEvent(seat_released=g.SeatReleased(order=order, reason=reason))


def completed(*orders: str, price: int = 7900) -> g.GroupEvent:
    return g.GroupEvent(completed=g.GroupCompleted(orders=orders, tier_members=2, unit_price_minor=price))


def settled(order: str, amount: int = 15800) -> g.GroupEvent:
    return g.GroupEvent(member_settled=g.MemberSettled(order=order, amount_minor=amount))


def member_declined(order: str, reason: str = "card_expired") -> g.GroupEvent:
    return g.GroupEvent(member_declined=g.MemberDeclined(order=order, reason=reason))


def member_released(order: str) -> g.GroupEvent:
    return g.GroupEvent(member_released=g.MemberReleased(order=order))


def cancel_refused(order: str, reason: str = "COMPLETED") -> g.GroupEvent:
    return g.GroupEvent(cancel_refused=g.CancelRefused(order=order, reason=reason))


def expired() -> g.GroupEvent:
    return g.GroupEvent(expired=g.GroupExpired(members=1))


# Payment events ---------------------------------------------------------------------------------------------------


def action_required(order: str) -> p.PaymentEvent:
    return p.PaymentEvent(action_required=p.ActionRequired(order=order, action_url="https://pay.example/3ds"))


def authorised(order: str, amount: int = 17800, *, sale: bool = False) -> p.PaymentEvent:
    operation = p.OPERATION_SALE if sale else p.OPERATION_AUTHORISE
    return p.PaymentEvent(
        hold_authorised=p.HoldAuthorised(
            order=order, hold=f"h-{order}", amount_minor=amount, currency="CNY", operation=operation
        )
    )


def hold_declined(order: str) -> p.PaymentEvent:
    return p.PaymentEvent(hold_declined=p.HoldDeclined(order=order, reason="insufficient_funds"))


def captured(order: str, amount: int = 15800, released: int = 2000) -> p.PaymentEvent:
    return p.PaymentEvent(
        captured=p.Captured(order=order, hold=f"h-{order}", amount_minor=amount, released_minor=released)
    )


def capture_declined(order: str) -> p.PaymentEvent:
    return p.PaymentEvent(capture_declined=p.CaptureDeclined(order=order, hold=f"h-{order}", reason="card_expired"))


def voided(order: str, amount: int = 17800, hold: str = "") -> p.PaymentEvent:
    return p.PaymentEvent(voided=p.Voided(order=order, hold=hold or f"h-{order}", amount_minor=amount))


def suspense(order: str, amount: int, hold: str = "") -> p.PaymentEvent:
    return p.PaymentEvent(
        suspense_recorded=p.SuspenseRecorded(order=order, hold=hold or f"h-{order}", amount_minor=amount)
    )


def hold_lapsed(order: str, amount: int = 17800) -> p.PaymentEvent:
    return p.PaymentEvent(hold_lapsed=p.HoldLapsed(order=order, hold=f"h-{order}", amount_minor=amount))


def refunded(order: str, amount: int, refund: str = "", hold: str = "") -> p.PaymentEvent:
    refunded = p.Refunded(order=order, hold=hold or f"h-{order}", amount_minor=amount, refund=refund)
    return p.PaymentEvent(refunded=refunded)


def payment_released(order: str) -> p.PaymentEvent:
    return p.PaymentEvent(payment_released=p.PaymentReleased(order=order))
