"""Events of a group, one maker each. Fields are set one by one: nested constructors take twice as long.

The values are those of decisions.proto; an amount is in minor units and a time in milliseconds since the epoch.
Must never decide anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.decisions_pb2 import REFUSAL_REASON_CANCELLED, GroupEvent, RefusalReason, ReleaseReason
from groupbuy.orders.v1.facts_pb2 import OrderFact

from services.groups.domain.model import State
from services.groups.domain.pricing import hold_amount
from services.groups.domain.terms import SETTLING_MS, Terms, Tier


def opened(terms: pb.Terms, fact: OrderFact, deadline_ms: int) -> GroupEvent:
    """The group began to form."""
    event = GroupEvent()
    body = event.opened
    body.terms.CopyFrom(terms)
    body.leader_order = fact.order
    body.leader_customer = fact.customer
    body.deadline_ms = deadline_ms
    return event


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
    """A seat waits for its money from now on, at the latest until the deadline. `invitation` is an encoded one."""
    event = GroupEvent()
    body = event.seat_reserved
    body.order = order
    body.customer = customer
    body.quantity = quantity
    body.hold_amount_minor = hold_amount(terms, quantity)
    body.currency = terms.currency
    body.payment_method = payment_method
    # Up to the deadline, not beyond it. A seat and its group may so be due in one and the same millisecond, and money
    # that arrives in it finds the group closed: whatever is due by an input's time happens before the input.
    until_ms = at_ms + terms.hold_window_ms
    body.reserved_until_ms = until_ms if until_ms < deadline_ms else deadline_ms
    body.hold_until_ms = deadline_ms + SETTLING_MS
    body.request_sha256 = request_sha256
    if invitation:
        body.invitation.MergeFromString(invitation)
    return event


def seat_refused(fact: OrderFact, reason: RefusalReason.ValueType) -> GroupEvent:
    """An order that was placed got no seat."""
    event = GroupEvent()
    body = event.seat_refused
    body.order = fact.order
    body.customer = fact.customer
    body.reason = reason
    body.request_sha256 = fact.placed.request_sha256
    return event


def order_refused(order: str, customer: str, reason: RefusalReason.ValueType) -> GroupEvent:
    """An order that was never read got no seat."""
    event = GroupEvent()
    body = event.seat_refused
    body.order = order
    body.customer = customer
    body.reason = reason
    return event


def seat_waitlisted(fact: OrderFact) -> GroupEvent:
    """An order waits."""
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
    """Money is held; `members` counts this one."""
    event = GroupEvent()
    body = event.member_confirmed
    body.order = order
    body.hold = hold
    body.members = members
    return event


def seat_released(order: str, reason: ReleaseReason.ValueType) -> GroupEvent:
    """A seat, or a place in the waitlist, is free again."""
    event = GroupEvent()
    body = event.seat_released
    body.order = order
    body.reason = reason
    return event


def release_requested(order: str, reason: ReleaseReason.ValueType) -> GroupEvent:
    """Whatever money the order has or will have goes back."""
    event = GroupEvent()
    body = event.release_requested
    body.order = order
    body.reason = reason
    return event


def leader_changed(state: State) -> GroupEvent:
    """The earliest confirmed member leads; nobody, if there is none."""
    event = GroupEvent()
    body = event.leader_changed
    body.order = ""
    for order, seat in state.confirmed.items():
        body.order = order
        body.customer = seat.customer
        break
    return event


def tier_reached(tier: Tier) -> GroupEvent:
    """The price fell."""
    event = GroupEvent()
    body = event.tier_reached
    body.members = tier.members
    body.unit_price_minor = tier.unit_price_minor
    return event


def completed(orders: Iterable[str], tier: Tier, house_filled: bool, leader: str) -> GroupEvent:
    """Enough members; `orders` in the order of their confirmation."""
    event = GroupEvent()
    body = event.completed
    body.orders.extend(orders)
    body.tier_members = tier.members
    body.unit_price_minor = tier.unit_price_minor
    body.house_filled = house_filled
    body.leader_order = leader
    return event


def expired(members: int) -> GroupEvent:
    """Too few members."""
    event = GroupEvent()
    event.expired.members = members
    return event


def cancelled(reason: str) -> GroupEvent:
    """Ended from outside."""
    event = GroupEvent()
    event.cancelled.reason = reason
    return event


def settlement_requested(order: str, hold: str, amount_minor: int, currency: str) -> GroupEvent:
    """A member is to be charged."""
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


def member_failed(order: str, reason: str) -> GroupEvent:
    """A member could not be charged."""
    event = GroupEvent()
    body = event.member_failed
    body.order = order
    body.reason = reason
    return event


def member_released(order: str) -> GroupEvent:
    """An order's money is back."""
    event = GroupEvent()
    event.member_released.order = order
    return event


def settled(state: State) -> GroupEvent:
    """No member is left to be charged."""
    event = GroupEvent()
    body = event.settled
    body.settled = state.settled
    body.failed = state.failed
    body.captured_minor = state.captured_minor
    return event


def cancel_refused(order: str, reason: str) -> GroupEvent:
    """A wish to leave came too late."""
    event = GroupEvent()
    body = event.cancel_refused
    body.order = order
    body.reason = reason
    return event


def faulted(error: str) -> GroupEvent:
    """The rules themselves failed."""
    event = GroupEvent()
    event.faulted.error = error
    return event


def cancelled_before_arrival(fact: OrderFact) -> GroupEvent:
    """The cancel overtook its order, which is remembered so."""
    return order_refused(fact.order, fact.customer, REFUSAL_REASON_CANCELLED)
