"""Constructors of a group's events. They make no decisions.

Fields are set one by one, because nested constructors take twice as long. The values are those of decisions.proto:
amounts in minor units, times in milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.decisions_pb2 import REFUSAL_REASON_CANCELLED, GroupEvent, RefusalReason, ReleaseReason
from groupbuy.orders.v1.facts_pb2 import OrderFact

from services.groups.domain.model import State, WaitlistEntry
from services.groups.domain.pricing import hold_amount
from services.groups.domain.terms import SETTLING_MS, Terms, Tier


def opened(terms: pb.Terms, fact: OrderFact, deadline_ms: int) -> GroupEvent:
    """A leader's order opened the group."""
    event = GroupEvent()
    body = event.opened
    body.terms.CopyFrom(terms)
    body.leader_order = fact.order
    body.leader_customer = fact.customer
    body.deadline_ms = deadline_ms
    return event


def seat_for(terms: Terms, deadline_ms: int, order: str, entry: WaitlistEntry, at_ms: int) -> GroupEvent:
    """A seat for an order that waited, or could have."""
    return seat_reserved(
        terms,
        deadline_ms,
        order,
        entry.customer,
        entry.quantity,
        entry.payment_method,
        entry.request_sha256,
        at_ms,
        entry.invitation,
    )


def seat_reserved(
    terms: Terms,
    deadline_ms: int,
    order: str,
    customer: str,
    quantity: int,
    payment_method: str,
    request_sha256: bytes,
    at_ms: int,
    invitation: bytes = b"",
) -> GroupEvent:
    """An order has a seat that waits for its hold until the deadline at most. `invitation` is an encoded Invitation."""
    event = GroupEvent()
    body = event.seat_reserved
    body.order = order
    body.customer = customer
    body.quantity = quantity
    body.hold_amount_minor = hold_amount(terms, quantity)
    body.currency = terms.currency
    body.payment_method = payment_method
    # Not beyond the deadline. A seat and its group can be due in the same millisecond; a payment in that millisecond
    # finds the group closed, because due timers fire before the input.
    until_ms = at_ms + terms.hold_window_ms
    body.reserved_until_ms = until_ms if until_ms < deadline_ms else deadline_ms
    body.hold_until_ms = deadline_ms + SETTLING_MS
    body.request_sha256 = request_sha256
    if invitation:
        body.invitation.MergeFromString(invitation)
    return event


def seat_refused(fact: OrderFact, reason: RefusalReason.ValueType) -> GroupEvent:
    """A placed order gets no seat."""
    event = GroupEvent()
    body = event.seat_refused
    body.order = fact.order
    body.customer = fact.customer
    body.reason = reason
    body.request_sha256 = fact.placed.request_sha256
    return event


def order_refused(order: str, customer: str, reason: RefusalReason.ValueType) -> GroupEvent:
    """An order whose fact was not read gets no seat."""
    event = GroupEvent()
    body = event.seat_refused
    body.order = order
    body.customer = customer
    body.reason = reason
    return event


def seat_waitlisted(fact: OrderFact) -> GroupEvent:
    """An order is in the waitlist."""
    placed = fact.placed
    event = GroupEvent()
    body = event.seat_waitlisted
    body.order = fact.order
    body.customer = fact.customer
    body.quantity = placed.quantity
    body.payment_method = placed.payment_method
    body.request_sha256 = placed.request_sha256
    if placed.HasField("invitation"):
        body.invitation.CopyFrom(placed.invitation)
    return event


def member_confirmed(order: str, hold: str, members: int) -> GroupEvent:
    """The hold of a seat is authorised. `members` includes this one."""
    event = GroupEvent()
    body = event.member_confirmed
    body.order = order
    body.hold = hold
    body.members = members
    return event


def seat_released(order: str, reason: ReleaseReason.ValueType) -> GroupEvent:
    """An order lost its seat or its place in the waitlist."""
    event = GroupEvent()
    body = event.seat_released
    body.order = order
    body.reason = reason
    return event


def release_requested(order: str, reason: ReleaseReason.ValueType) -> GroupEvent:
    """Asks payments to return all money that the order has now or gets later."""
    event = GroupEvent()
    body = event.release_requested
    body.order = order
    body.reason = reason
    return event


def leader_changed(state: State) -> GroupEvent:
    """The earliest confirmed member becomes the leader; the order is empty if there is none."""
    event = GroupEvent()
    body = event.leader_changed
    body.order = ""
    for order, seat in state.confirmed.items():
        body.order = order
        body.customer = seat.customer
        break
    return event


def tier_reached(tier: Tier) -> GroupEvent:
    """The number of members reached a tier."""
    event = GroupEvent()
    body = event.tier_reached
    body.members = tier.members
    body.unit_price_minor = tier.unit_price_minor
    return event


def completed(orders: Iterable[str], tier: Tier, virtual: bool, leader: str) -> GroupEvent:
    """The group completed with these orders, in the order of their confirmation."""
    event = GroupEvent()
    body = event.completed
    body.orders.extend(orders)
    body.tier_members = tier.members
    body.unit_price_minor = tier.unit_price_minor
    body.house_filled = virtual
    body.leader_order = leader
    return event


def expired(members: int) -> GroupEvent:
    """The group closed with too few members."""
    event = GroupEvent()
    event.expired.members = members
    return event


def cancelled(reason: str) -> GroupEvent:
    """The group was cancelled by a command or an error in the rules."""
    event = GroupEvent()
    event.cancelled.reason = reason
    return event


def settlement_requested(order: str, hold: str, amount_minor: int, currency: str) -> GroupEvent:
    """Asks payments to charge a member."""
    event = GroupEvent()
    body = event.settlement_requested
    body.order = order
    body.hold = hold
    body.amount_minor = amount_minor
    body.currency = currency
    return event


def member_settled(order: str, amount_minor: int) -> GroupEvent:
    """A member was charged."""
    event = GroupEvent()
    body = event.member_settled
    body.order = order
    body.amount_minor = amount_minor
    return event


def member_declined(order: str, reason: str) -> GroupEvent:
    """The charge of a member was declined."""
    event = GroupEvent()
    body = event.member_declined
    body.order = order
    body.reason = reason
    return event


def member_released(order: str) -> GroupEvent:
    """Payments has returned the money of an order."""
    event = GroupEvent()
    event.member_released.order = order
    return event


def member_owed(order: str, hold: str, refund: str, amount_minor: int, payments_version: int) -> GroupEvent:
    """Payments owe a sum to a customer, by a decision of theirs; amount 0: not any more."""
    event = GroupEvent()
    body = event.member_owed
    body.order = order
    body.hold = hold
    body.refund = refund
    body.amount_minor = amount_minor
    body.payments_version = payments_version
    return event


def settled(state: State) -> GroupEvent:
    """Every member is charged or declined."""
    event = GroupEvent()
    body = event.settled
    body.settled = state.settled
    body.declined = state.declined
    body.captured_minor = state.captured_minor
    return event


def cancel_refused(order: str, reason: str) -> GroupEvent:
    """A cancel request came too late."""
    event = GroupEvent()
    body = event.cancel_refused
    body.order = order
    body.reason = reason
    return event


def faulted(error: str) -> GroupEvent:
    """The rules raised an error."""
    event = GroupEvent()
    event.faulted.error = error
    return event


def cancelled_before_arrival(fact: OrderFact) -> GroupEvent:
    """A cancel request came before its order. The refusal is recorded, so the order finds it."""
    return order_refused(fact.order, fact.customer, REFUSAL_REASON_CANCELLED)
