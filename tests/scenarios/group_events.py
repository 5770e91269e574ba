"""Builders of a group's events. Amounts in minor units."""

from __future__ import annotations

from typing import Any

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.decisions_pb2 import GroupEvent


def hold_of(order: str) -> str:
    """The reference of an order's first hold, in tests that name none."""
    return f"hold-{order}"


def opened(leader: str, terms: pb.Terms, deadline_ms: int, **fields: Any) -> GroupEvent:
    return GroupEvent(opened=pb.GroupOpened(terms=terms, leader_order=leader, deadline_ms=deadline_ms, **fields))


def seat_reserved(order: str, customer: str, hold_amount_minor: int, **changes: Any) -> GroupEvent:
    fields: dict[str, Any] = {"quantity": 1, "currency": "CNY", "payment_method": "card_ok"}
    return GroupEvent(
        seat_reserved=pb.SeatReserved(
            order=order, customer=customer, hold_amount_minor=hold_amount_minor, **fields | changes
        )
    )


def seat_waitlisted(order: str, customer: str, **fields: Any) -> GroupEvent:
    return GroupEvent(seat_waitlisted=pb.SeatWaitlisted(order=order, customer=customer, **fields))


def seat_refused(
    order: str, reason: pb.RefusalReason.ValueType = pb.REFUSAL_REASON_GROUP_FULL, **fields: Any
) -> GroupEvent:
    return GroupEvent(seat_refused=pb.SeatRefused(order=order, reason=reason, **fields))


def member_confirmed(order: str, members: int = 1, hold: str = "") -> GroupEvent:
    hold = hold or hold_of(order)
    return GroupEvent(member_confirmed=pb.MemberConfirmed(order=order, hold=hold, members=members))


def seat_released(order: str, reason: pb.ReleaseReason.ValueType) -> GroupEvent:
    return GroupEvent(seat_released=pb.SeatReleased(order=order, reason=reason))


def tier_reached(members: int, unit_price_minor: int) -> GroupEvent:
    return GroupEvent(tier_reached=pb.TierReached(members=members, unit_price_minor=unit_price_minor))


def completed(*orders: str, unit_price_minor: int = 7_900, tier_members: int = 2, **fields: Any) -> GroupEvent:
    body = pb.GroupCompleted(orders=orders, tier_members=tier_members, unit_price_minor=unit_price_minor, **fields)
    return GroupEvent(completed=body)


def expired(members: int = 0) -> GroupEvent:
    return GroupEvent(expired=pb.GroupExpired(members=members))


def settlement_requested(order: str, amount_minor: int, hold: str = "", currency: str = "CNY") -> GroupEvent:
    hold = hold or hold_of(order)
    body = pb.SettlementRequested(order=order, hold=hold, amount_minor=amount_minor, currency=currency)
    return GroupEvent(settlement_requested=body)


def release_requested(order: str, reason: pb.ReleaseReason.ValueType = pb.RELEASE_REASON_UNSPECIFIED) -> GroupEvent:
    return GroupEvent(release_requested=pb.ReleaseRequested(order=order, reason=reason))


def member_settled(order: str, amount_minor: int) -> GroupEvent:
    return GroupEvent(member_settled=pb.MemberSettled(order=order, amount_minor=amount_minor))


def member_declined(order: str, reason: str = "card_expired") -> GroupEvent:
    return GroupEvent(member_declined=pb.MemberDeclined(order=order, reason=reason))


def member_released(order: str) -> GroupEvent:
    return GroupEvent(member_released=pb.MemberReleased(order=order))


def cancel_refused(order: str, reason: str = "COMPLETED") -> GroupEvent:
    return GroupEvent(cancel_refused=pb.CancelRefused(order=order, reason=reason))


def settled(members: int, captured_minor: int) -> GroupEvent:
    return GroupEvent(settled=pb.GroupSettled(settled=members, captured_minor=captured_minor))
